"""Loading: the same pixels as in evaluation, and errors that say what to do."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.core.errors import UserError
from deploy.core.preprocess import image_to_tensor
from stages.detectnet import data
from stages.detectnet.data import load_samples, pad_boxes
from stages.detectnet.errors import DetectNetError
from tests.stages.detectnet.pictures import INPUT_WH, draw_samples, write_kitti


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    drawn = draw_samples(5)
    write_kitti(tmp_path, drawn)
    loaded = load_samples(tmp_path, drawn.stems, input_wh=INPUT_WH)
    assert loaded.stems == drawn.stems
    assert np.array_equal(loaded.images, drawn.images)
    for mine, theirs in zip(loaded.boxes, drawn.boxes, strict=True):
        assert np.array_equal(mine, theirs)


def test_pixels_equal_those_of_evaluation(tmp_path: Path) -> None:
    drawn = draw_samples(1)
    write_kitti(tmp_path, drawn)
    loaded = load_samples(tmp_path, drawn.stems, input_wh=[64, 32])
    image_bgr = cv2.imread(str(tmp_path / "images" / f"{drawn.stems[0]}.png"))
    tensor = image_to_tensor(image_bgr, input_wh=(64, 32))
    assert np.abs(loaded.images[0].transpose(2, 0, 1) / 255.0 - tensor).max() < 1e-6


def test_boxes_follow_the_picture_both_ways(tmp_path: Path) -> None:
    drawn = draw_samples(2)
    write_kitti(tmp_path, drawn)
    loaded = load_samples(tmp_path, drawn.stems, input_wh=[192, 32])
    assert loaded.boxes[0] == pytest.approx(drawn.boxes[0] * [2, 0.5, 2, 0.5])
    assert loaded.image_boxes(0) == pytest.approx(drawn.boxes[0])
    assert loaded.input_wh == (192, 32)


def test_other_classes_are_left_out(tmp_path: Path) -> None:
    drawn = draw_samples(1)
    write_kitti(tmp_path, drawn)
    path = tmp_path / "labels" / f"{drawn.stems[0]}.txt"
    path.write_text(path.read_text().replace("hand", "Car"))
    assert load_samples(tmp_path, drawn.stems, input_wh=INPUT_WH).boxes[0].shape == (0, 4)


def test_big_sets_are_memory_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_samples(2)
    write_kitti(tmp_path, drawn)
    monkeypatch.setattr(data, "MEMORY_LIMIT_BYTES", 0)
    loaded = load_samples(tmp_path, drawn.stems, input_wh=INPUT_WH, cache_dir=tmp_path / "cache")
    assert isinstance(loaded.images, np.memmap)
    assert np.array_equal(loaded.images, drawn.images)


def test_padding() -> None:
    boxes = [np.ones((2, 4), np.float32), np.zeros((0, 4), np.float32)]
    padded, is_box = pad_boxes(boxes)
    assert padded.shape == (2, 2, 4)
    assert is_box.tolist() == [[True, True], [False, False]]
    assert pad_boxes([boxes[1]])[0].shape == (1, 1, 4)


def test_no_frames(tmp_path: Path) -> None:
    with pytest.raises(DetectNetError, match="train: no frames are listed"):
        load_samples(tmp_path, [], input_wh=INPUT_WH, desc="train")


@pytest.mark.parametrize("spoil", ["folder", "image", "jpeg", "label", "columns"])
def test_bad_input_is_named(tmp_path: Path, spoil: str) -> None:
    drawn = draw_samples(2)
    write_kitti(tmp_path, drawn)
    stem = drawn.stems[1]
    image, label = tmp_path / "images" / f"{stem}.png", tmp_path / "labels" / f"{stem}.txt"
    if spoil == "folder":
        (tmp_path / "images").rename(tmp_path / "pictures")
    elif spoil == "image":
        image.unlink()
    elif spoil == "jpeg":
        image.write_bytes(b"\x89PNG broken")
    elif spoil == "label":
        label.unlink()
    else:
        label.write_text("hand 0 0 0 1 1 9 9\n")
    with pytest.raises(UserError, match="images" if spoil == "folder" else stem) as caught:
        load_samples(tmp_path, drawn.stems, input_wh=INPUT_WH)
    assert "\n" not in str(caught.value)
