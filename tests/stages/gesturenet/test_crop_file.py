"""Crops come back from a file as they were, but for JPEG, and from no other file."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.gesturenet.crop_file import load_saved_crops, save_crops
from stages.gesturenet.crops import empty_crops
from stages.gesturenet.errors import GestureError
from tests.stages.gesturenet.samples import striped_crops

MADE_FROM = {"videos": 3, "seed": 7}


def test_crops_come_back(tmp_path: Path) -> None:
    crops = striped_crops(2, size_px=64)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in crops.images])
    joints = np.random.default_rng(0).uniform(0, 64, (12, 21, 2)).astype(np.float32)
    joints[3] = np.nan
    crops = crops._replace(images=smooth, joints=joints)
    save_crops(tmp_path / "drawn.npz", crops, MADE_FROM)
    loaded = load_saved_crops(tmp_path / "drawn.npz", MADE_FROM)
    assert np.abs(loaded.images.astype(int) - smooth).mean() < 2
    assert np.array_equal(loaded.boxes, crops.boxes)
    assert np.array_equal(loaded.class_id, crops.class_id)
    assert np.array_equal(loaded.joints, joints, equal_nan=True)
    assert loaded.names == crops.names
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.npz"]


def test_no_crops_come_back_as_none(tmp_path: Path) -> None:
    save_crops(tmp_path / "none.npz", empty_crops(32), MADE_FROM)
    loaded = load_saved_crops(tmp_path / "none.npz", MADE_FROM)
    assert loaded.images.shape == (0, 32, 32, 3)
    assert loaded.names == ()


def test_crops_of_another_recipe_are_not_taken(tmp_path: Path) -> None:
    save_crops(tmp_path / "drawn.npz", empty_crops(32), MADE_FROM)
    with pytest.raises(GestureError, match=r'made from \{"seed": 7, "videos": 3\}, expected'):
        load_saved_crops(tmp_path / "drawn.npz", {"videos": 4, "seed": 7})


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "drawn.npz").write_text("no archive")
    with pytest.raises(GestureError, match="drawn.npz is no file of crops"):
        load_saved_crops(tmp_path / "drawn.npz", MADE_FROM)
