from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.core.roi import RoiRule
from stages.datasets.index import GestureRow, IndexRow, write_gestures, write_index
from stages.gesturenet.config import GESTURES
from stages.gesturenet.crops import (
    boxes_in_regions,
    check_classes,
    concatenate_crops,
    load_labelled_crops,
    load_unlabelled_crops,
    take_crops,
)
from stages.gesturenet.errors import GestureError
from tests.stages.gesturenet.samples import FRAME_WH, striped_crops, write_kitti

STEM = "A_B_C_D_frame_0000"


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    write_kitti(tmp_path, num_frames=3)
    return tmp_path / "data" / "kitti"


def test_a_crop_for_every_labelled_hand_of_the_stems(kitti: Path) -> None:
    crops = load_labelled_crops(kitti, [STEM], rule=RoiRule(), size_px=64)
    assert crops.images.shape == (6, 64, 64, 3)
    assert crops.class_id.tolist() == list(range(6))
    assert crops.names == tuple(f"{STEM}#{row}" for row in range(6))


def test_the_box_is_where_the_hand_is(kitti: Path) -> None:
    crops = load_labelled_crops(kitti, [STEM], rule=RoiRule(ratio=2.0), size_px=120)
    assert np.allclose(crops.boxes, [30, 30, 90, 90])
    for image in crops.images:
        rows, columns = np.nonzero(image[..., 2] > 150)
        assert rows.min() >= 30
        assert columns.max() < 90


def test_no_label_gives_no_crop(kitti: Path) -> None:
    write_gestures(kitti / "gestures.csv", [])
    crops = load_labelled_crops(kitti, [STEM], rule=RoiRule(), size_px=64)
    assert crops.images.shape == (0, 64, 64, 3)
    assert crops.boxes.shape == (0, 4)


def test_boxes_are_scaled_from_their_region() -> None:
    boxes, regions = np.float32([[10, 20, 30, 60]]), np.float32([[0, 20, 40, 60]])
    assert boxes_in_regions(boxes, regions, size_px=80).tolist() == [[20, 0, 60, 80]]


def test_an_unreadable_picture_is_named(kitti: Path) -> None:
    (kitti / "images" / f"{STEM}.png").write_bytes(b"no picture")
    with pytest.raises(GestureError, match=r"frame_0000\.png cannot be decoded"):
        load_labelled_crops(kitti, [STEM], rule=RoiRule(), size_px=64)


def test_an_unknown_gesture_is_named_with_the_known_ones(kitti: Path) -> None:
    write_gestures(kitti / "gestures.csv", [GestureRow(STEM, 0, "wave")])
    with pytest.raises(GestureError, match="'wave', known: thumbs_up, fist"):
        load_labelled_crops(kitti, [STEM], rule=RoiRule(), size_px=64)


def test_a_row_outside_the_label_file_is_named(kitti: Path) -> None:
    write_gestures(kitti / "gestures.csv", [GestureRow(STEM, 6, "fist")])
    with pytest.raises(GestureError, match="has 6 lines, but gestures.csv names row 6"):
        load_labelled_crops(kitti, [STEM], rule=RoiRule(), size_px=64)


def test_a_grey_picture_is_read_as_three_channels(kitti: Path) -> None:
    cv2.imwrite(str(kitti / "images" / f"{STEM}.png"), np.full((200, 320), 77, np.uint8))
    crops = load_labelled_crops(kitti, [STEM], rule=RoiRule(border="clip"), size_px=32)
    assert (crops.images == 77).all()


def test_one_gesture_cannot_be_trained_and_a_missing_one_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crops = striped_crops(1, size_px=32)
    check_classes(crops)
    assert caplog.text == ""
    check_classes(take_crops(crops, np.array([0, 1, 5])))
    assert "no training crop of stop, ok, two" in caplog.text
    with pytest.raises(GestureError, match="of 1 gestures, expected at least 2"):
        check_classes(take_crops(crops, np.array([3])))


def test_joined_crops_keep_their_order() -> None:
    crops = striped_crops(1, size_px=32)
    joined = concatenate_crops([take_crops(crops, np.array([2])), crops])
    assert joined.class_id.tolist() == [2, *range(len(GESTURES))]
    assert joined.names[0] == "crop2"


def test_hands_of_videos_without_gestures_are_random(kitti: Path) -> None:
    stems = [f"A_B_C_D_frame_{number:04d}" for number in range(3)]
    videos = ["with", "without", "without"]
    rows = [
        IndexRow(stem, video, 0, *FRAME_WH, stem == stems[2])
        for stem, video in zip(stems, videos, strict=True)
    ]
    write_index(kitti / "index.csv", rows)
    write_gestures(kitti / "gestures.csv", [GestureRow(stems[0], 1, "two")])
    crops = load_unlabelled_crops(kitti, [*stems, stems[1]], rule=RoiRule(), size_px=32)
    assert crops.names == tuple(f"{stems[1]}#{row}" for row in range(6)), "nor extra_train's"
    assert set(crops.class_id.tolist()) == {GESTURES.index("random")}
    none = load_unlabelled_crops(kitti, stems[:1], rule=RoiRule(), size_px=32)
    assert none.images.shape == (0, 32, 32, 3)
