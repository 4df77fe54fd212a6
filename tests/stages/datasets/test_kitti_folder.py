from pathlib import Path

import numpy as np
import pytest

from deploy.core.errors import UserError
from stages.datasets.config import DatasetConfig
from stages.datasets.errors import DatasetError
from stages.datasets.frames import VideoFrames
from stages.datasets.kitti_folder import read_extra_folder, read_kitti_folder
from tests.stages.datasets.samples import label, write_image, write_kitti

PATTERN = DatasetConfig().video_pattern


def read(folder: Path, *hand_types: str) -> list[VideoFrames]:
    return read_kitti_folder(folder, hand_types=hand_types or ("hand",), video_pattern=PATTERN)


@pytest.mark.parametrize(
    ("stem", "video", "frame"),
    [
        ("CARDS_OFFICE_S_B_frame_0011", "CARDS_OFFICE_S_B_frame", 11),
        ("kitchen_7", "kitchen", 7),
        ("cam2_46_pic00010", "cam2_46", 10),
        ("a_1_2", "a_1", 2),
    ],
)
def test_the_video_is_the_stem_before_its_last_number(
    tmp_path: Path, stem: str, video: str, frame: int
) -> None:
    write_kitti(tmp_path, {stem: label(1, 2, 11, 12)})
    (found,) = read(tmp_path)
    assert (found.name, found.frames[0].frame, found.frames[0].stem) == (video, frame, stem)


def test_stems_that_do_not_fit_name_the_setting(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"000001": label(1, 2, 11, 12)})
    with pytest.raises(DatasetError, match=r"000001 does not fit dataset\.video_pattern"):
        read(tmp_path)


def test_types_are_chosen_and_others_counted(tmp_path: Path) -> None:
    text = (
        label(1, 1, 9, 9)
        + label(2, 2, 9, 9, name="Left_Hand")
        + label(3, 3, 9, 9, name="DontCare")
    )
    write_kitti(tmp_path, {"a_1": text})
    (only,) = read(tmp_path, "hand")
    assert only.frames[0].xyxy.tolist() == [[1, 1, 9, 9]]
    assert only.fates["ignored"] == 2
    (more,) = read(tmp_path, "*hand")
    assert more.frames[0].xyxy.tolist() == [[1, 1, 9, 9], [2, 2, 9, 9]]


def test_boxes_are_clipped_and_counted(tmp_path: Path) -> None:
    text = label(-5, 1, 9, 9) + label(70, 1, 80, 9) + label(5, 5, 5, 9) + label(1, 1, 64, 48)
    write_kitti(tmp_path, {"a_1": text})
    (video,) = read(tmp_path)
    assert video.frames[0].xyxy.tolist() == [[0, 1, 9, 9], [1, 1, 64, 48]]
    assert video.fates == {"clipped": 1, "outside": 1, "degenerate": 1, "ignored": 0}


def test_an_image_without_a_label_file_is_a_negative(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9), "a_2": ""})
    (video,) = read(tmp_path)
    assert [len(frame.xyxy) for frame in video.frames] == [1, 0]


def test_an_empty_label_file_is_a_negative_too(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9), "a_2": "\n"})
    assert [len(frame.xyxy) for frame in read(tmp_path)[0].frames] == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            label(1, 1, 9, 9).rsplit(" ", 1)[0] + "\n",
            r"labels/a_1\.txt:1: 14 columns; expected 15",
        ),
        (label(1, 1, 9, 9) + label(1, 1, 9, 9).strip() + " 0.5\n", r"a_1\.txt:2: 16 columns"),
        (label(9, 1, 1, 9), r"a_1\.txt:1: .*inverted"),
        (label(1, 1, 9, 9).replace("9.00", "nan"), r"a_1\.txt:1: 'nan' is not a finite number"),
    ],
)
def test_a_malformed_label_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    write_kitti(tmp_path, {"a_1": text})
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert "correct this line" in str(caught.value)


def test_a_label_without_an_image_is_refused(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9)})
    (tmp_path / "labels" / "a_2.txt").write_text("")
    with pytest.raises(DatasetError, match=r"a_2\.txt has no image"):
        read(tmp_path)


def test_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9)})
    write_image(tmp_path / "images" / "a_1.png", seed=1)
    with pytest.raises(DatasetError, match=r"two images a_1 \(a_1\.jpg, a_1\.png\)"):
        read(tmp_path)


def test_labels_without_a_hand_name_the_types_that_are_there(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"a_1": label(1, 1, 9, 9, name="palm")})
    with pytest.raises(
        DatasetError, match=r"types are palm, expected hand; set dataset\.hand_types"
    ):
        read(tmp_path)


def test_no_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="holds no image"):
        read(tmp_path)


def test_extra_frames_are_one_video_for_training_only(tmp_path: Path) -> None:
    write_kitti(tmp_path, {"any name": label(1, 1, 9, 9), "b_2": ""}, suffix=".png")
    video = read_extra_folder(tmp_path, "EXTRA0", hand_types=["hand"])
    assert video.name == "EXTRA0"
    assert [frame.stem for frame in video.frames] == ["EXTRA0_any name", "EXTRA0_b_2"]
    assert all(frame.train_only and frame.video == "EXTRA0" for frame in video.frames)
    np.testing.assert_array_equal(video.frames[0].xyxy, [[1, 1, 9, 9]])
