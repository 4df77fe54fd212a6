"""The written files: same bytes for any number of workers, and EgoHands' layout."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import drawn_frames, list_jobs, render_dataset
from stages.datasets.render.poses import GESTURES
from stages.datasets.render.script import FIELDS

SMALL = RenderConfig(
    seed=5,
    image_wh=[320, 180],
    train_videos=2,
    val_videos=1,
    test_videos=1,
    frames_per_video=3,
    train_frames=3,
    train_step=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    report = render_dataset(SMALL, folder, workers=1)
    assert (report.videos, report.frames) == (4, 12)
    return folder


def read_all(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def polygons(video: Path) -> np.ndarray:
    return scipy.io.loadmat(video / "polygons.mat")["polygons"]


def test_same_bytes_with_two_workers(folder: Path, tmp_path: Path) -> None:
    render_dataset(SMALL, tmp_path, workers=2)
    assert read_all(tmp_path) == read_all(folder)


def test_another_seed_gives_other_pictures(folder: Path, tmp_path: Path) -> None:
    config = RenderConfig(
        seed=6,
        image_wh=[320, 180],
        train_videos=1,
        val_videos=0,
        test_videos=0,
        train_frames=1,
    )
    render_dataset(config, tmp_path, workers=1)
    frame = next(tmp_path.rglob("*.jpg"))
    assert frame.read_bytes() not in read_all(folder).values()


def test_layout_is_that_of_egohands(folder: Path) -> None:
    videos = sorted((folder / "_LABELLED_SAMPLES").iterdir())
    assert [video.name.split("_")[0] for video in videos] == ["TEST", "TRAIN", "TRAIN", "VAL"]
    for video in videos:
        assert len(video.name.split("_")) == 4
        struct = polygons(video)
        assert struct.shape == (1, 3)
        assert struct.dtype.names == FIELDS
        assert len(list(video.glob("frame_????.jpg"))) == 3


def test_polygons_lie_inside_the_picture_and_match_the_gestures(folder: Path) -> None:
    for video in (folder / "_LABELLED_SAMPLES").iterdir():
        rows = json.loads((video / "gestures.json").read_text())
        assert rows["schema"] == 1
        for polygon_row, gesture_row in zip(polygons(video)[0], rows["frames"], strict=True):
            present = {field for field in FIELDS if polygon_row[field].size}
            assert present == set(gesture_row)
            assert set(gesture_row.values()) <= {*GESTURES, None}
            for field in FIELDS:
                outline = polygon_row[field]
                if field not in present:
                    assert outline.shape == (0, 0)
                    continue
                assert outline.dtype == np.float64
                assert len(outline) >= 3
                assert (outline >= 0).all()
                assert (outline <= [320, 180]).all()


def test_frames_have_the_configured_size(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        assert cv2.imread(str(path)).shape == (180, 320, 3)


def test_written_header_has_no_date(folder: Path) -> None:
    for path in folder.rglob("polygons.mat"):
        assert b"Created on" not in path.read_bytes()[:128]


def test_existing_video_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(FileExistsError):
        render_dataset(SMALL, folder, workers=1)


def test_no_videos_is_an_empty_set(tmp_path: Path) -> None:
    config = RenderConfig(train_videos=0, val_videos=0, test_videos=0)
    assert list_jobs(config, tmp_path) == []
    assert render_dataset(config, tmp_path, workers=2) == (0, 0, 0)


def test_training_frames_lie_train_step_apart_and_the_others_follow_each_other() -> None:
    config = RenderConfig(train_frames=3, train_step=8, frames_per_video=4)
    assert list(drawn_frames(config, "train")) == [0, 8, 16]
    assert list(drawn_frames(config, "val")) == list(drawn_frames(config, "test")) == [0, 1, 2, 3]
