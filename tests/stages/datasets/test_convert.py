import os
from pathlib import Path

import numpy as np
import pytest

from deploy.core.kitti import label_boxes, read_labels
from stages.datasets.config import DatasetConfig
from stages.datasets.convert import convert_dataset
from stages.datasets.egohands import list_videos, read_polygons
from stages.datasets.errors import DatasetError
from stages.datasets.index import read_gestures, read_index
from tests.stages.datasets.samples import (
    SQUARE,
    files_below,
    label,
    write_kitti,
    write_samples,
    write_video,
)

REAL = Path(__file__).parents[3] / ".." / "shared" / "data" / "egohands"


def convert(raw: Path, kitti: Path, **settings: object) -> dict[str, object]:
    kitti.mkdir()
    config = DatasetConfig(**settings)  # type: ignore[arg-type]
    return convert_dataset(config, raw, kitti).as_metrics()


def test_samples_become_a_kitti_folder(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    rows = [{"myright": SQUARE, "yourleft": SQUARE - [15.0, 0.0]}, {"myleft": SQUARE[:2]}]
    video = raw / "_LABELLED_SAMPLES" / "CARDS_OFFICE_S_B"
    write_video(video, rows, gestures=[{"myright": None, "yourleft": "fist"}, {}])
    report = convert(raw, tmp_path / "kitti", kind="egohands")
    assert files_below(tmp_path / "kitti").keys() == {
        "gestures.csv",
        "images/CARDS_OFFICE_S_B_frame_0011.jpg",
        "images/CARDS_OFFICE_S_B_frame_0022.jpg",
        "index.csv",
        "labels/CARDS_OFFICE_S_B_frame_0011.txt",
        "labels/CARDS_OFFICE_S_B_frame_0022.txt",
    }
    assert (tmp_path / "kitti/labels/CARDS_OFFICE_S_B_frame_0011.txt").read_text() == (
        label(10, 10, 20, 22) + label(0, 10, 5, 22)
    )
    assert (tmp_path / "kitti/labels/CARDS_OFFICE_S_B_frame_0022.txt").read_text() == ""
    assert read_gestures(tmp_path / "kitti/gestures.csv") == [
        ("CARDS_OFFICE_S_B_frame_0011", 1, "fist")
    ]
    counts = {
        "images": 2,
        "boxes": 2,
        "negatives": 1,
        "gestures": 1,
        "clipped": 1,
        "outside": 0,
        "degenerate": 1,
    }
    row = {"video": "CARDS_OFFICE_S_B", **counts}
    assert report == {**counts, "videos": 1, "per_video": [row]}


def test_images_are_hard_links_and_stay_as_they_are(tmp_path: Path) -> None:
    raw = write_samples(tmp_path / "raw", ["CARDS_OFFICE_S_B"])
    before = files_below(raw)
    convert(raw, tmp_path / "kitti", kind="egohands")
    assert files_below(raw) == before
    source = raw / "_LABELLED_SAMPLES" / "CARDS_OFFICE_S_B" / "frame_0011.jpg"
    assert os.path.samefile(source, tmp_path / "kitti/images/CARDS_OFFICE_S_B_frame_0011.jpg")


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    raw = write_samples(tmp_path / "raw", ["B_OFFICE_S_B", "A_OFFICE_S_B"])
    convert(raw, tmp_path / "one", kind="egohands")
    convert(raw, tmp_path / "two", kind="egohands")
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_a_kitti_folder_keeps_its_stems_and_extra_gets_a_prefix(tmp_path: Path) -> None:
    raw = write_kitti(tmp_path / "raw", {"a_1": label(-4, 1, 9, 9), "b_1": ""})
    write_kitti(raw / "extra_train" / "0", {"x": label(1, 1, 9, 9)}, suffix=".png")
    report = convert(raw, tmp_path / "kitti", kind="kitti", extra_train=["elsewhere"])
    assert [
        (row.stem, row.video, row.train_only) for row in read_index(tmp_path / "kitti/index.csv")
    ] == [
        ("EXTRA0_x", "EXTRA0", True),
        ("a_1", "a", False),
        ("b_1", "b", False),
    ]
    assert (tmp_path / "kitti/images/EXTRA0_x.png").is_file()
    assert (tmp_path / "kitti/labels/a_1.txt").read_text() == label(0, 1, 9, 9)
    assert (report["images"], report["boxes"], report["negatives"]) == (3, 2, 1)


def test_suffixes_become_lower_case(tmp_path: Path) -> None:
    raw = write_kitti(tmp_path / "raw", {"a_1": label(1, 1, 9, 9)}, suffix=".JPG")
    convert(raw, tmp_path / "kitti", kind="kitti")
    assert (tmp_path / "kitti/images/a_1.jpg").is_file()


def test_two_frames_of_one_name_are_refused(tmp_path: Path) -> None:
    raw = write_samples(tmp_path / "raw", ["A", "A_frame"], frames=1)
    samples = raw / "_LABELLED_SAMPLES"
    (samples / "A" / "frame_0011.jpg").rename(samples / "A" / "frame_x.jpg")
    (samples / "A_frame" / "frame_0011.jpg").rename(samples / "A_frame" / "x.jpg")
    with pytest.raises(DatasetError, match="two frames would be named A_frame_x"):
        convert(raw, tmp_path / "kitti", kind="egohands")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real videos are not on this machine")
def test_real_videos_have_a_box_for_every_polygon(tmp_path: Path) -> None:
    report = convert(REAL, tmp_path / "kitti", kind="egohands")
    assert (report["images"], report["boxes"]) == (300, 798)
    assert (report["clipped"], report["outside"], report["degenerate"]) == (0, 0, 0)
    rows = [
        row
        for video in list_videos(REAL / "_LABELLED_SAMPLES")
        for row in read_polygons(video / "polygons.mat")
    ]
    index = read_index(tmp_path / "kitti" / "index.csv")
    for frame, row in zip(index, rows, strict=True):
        hands = [np.concatenate([p.min(axis=0), p.max(axis=0)]) for p in row if len(p)]
        boxes = label_boxes(read_labels(tmp_path / "kitti" / "labels" / f"{frame.stem}.txt"))
        np.testing.assert_allclose(boxes, np.reshape(hands, (-1, 4)), atol=0.0051)


def test_drawn_training_videos_are_for_training_only(tmp_path: Path) -> None:
    raw = write_samples(tmp_path / "raw", ["A_B_C_D"])
    write_samples(raw / "drawn", ["TRAIN_X_1", "VAL_X_2"])
    convert(raw, tmp_path / "kitti", kind="egohands", drawn=True)
    rows = read_index(tmp_path / "kitti/index.csv")
    assert {row.video: row.train_only for row in rows} == {
        "A_B_C_D": False,
        "TRAIN_X_1": True,
        "VAL_X_2": False,
    }
