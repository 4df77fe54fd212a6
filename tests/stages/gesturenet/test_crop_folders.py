"""Class folders become crops whose sources never stand on two sides."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.gesturenet.config import GESTURES
from stages.gesturenet.crop_folders import load_crop_folders, source_of, split_sources
from stages.gesturenet.crops import Crops, unknown_joints
from stages.gesturenet.errors import GestureError
from stages.gesturenet.joint_table import JointRow, write_joints


def write(folder: Path, name: str, image: np.ndarray | None = None) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 40, 3), 90, np.uint8) if image is None else image)


def crops_of(*names: str) -> Crops:
    count = len(names)
    images, boxes = np.zeros((count, 4, 4, 3), np.uint8), np.zeros((count, 4), np.float32)
    return Crops(images, boxes, np.zeros(count, np.int64), names, unknown_joints(count))


def test_crops_are_resized_and_their_hands_are_in_the_middle(tmp_path: Path) -> None:
    write(tmp_path, "fist/anna_0001.png")
    write(tmp_path, "two/two_hands_cam2_7.png")
    crops = load_crop_folders([tmp_path], size_px=56, ratio=1.4)
    assert crops.images.shape == (2, 56, 56, 3)
    assert crops.boxes.tolist() == [[8, 8, 48, 48]] * 2
    assert [GESTURES[index] for index in crops.class_id] == ["fist", "two"]
    assert [source_of(name) for name in crops.names] == ["anna", "two_hands_cam2"]


@pytest.mark.parametrize(
    "image",
    [np.full((40, 30), 90, np.uint8), np.full((40, 30, 4), 90, np.uint8)],
    ids=["grey", "transparent"],
)
def test_grey_and_transparent_pictures_are_read(tmp_path: Path, image: np.ndarray) -> None:
    write(tmp_path, "ok/a_1.png", image)
    crops = load_crop_folders([tmp_path], size_px=32, ratio=1.4)
    assert crops.images.shape == (1, 32, 32, 3)
    assert int(np.abs(crops.images.astype(int) - 90).max()) <= 1


def test_known_joints_give_the_box(tmp_path: Path) -> None:
    write(tmp_path, "ok/a_1.png")
    write(tmp_path, "ok/a_2.png")
    joints = np.full((21, 2), 0.5)
    joints[1], joints[2] = (0.25, 0.4), (0.75, 0.6)
    joints[9] = (0.5, 0.625)  # an eighth of the picture from the wrist
    write_joints(tmp_path / "joints.csv", [JointRow("ok/a_2.png", "left", 1.0, joints)])
    crops = load_crop_folders([tmp_path], size_px=40, ratio=1.4, joints=tmp_path / "joints.csv")
    assert np.isnan(crops.joints[0]).all()
    assert crops.joints[1] == pytest.approx(40 * joints)
    assert crops.boxes[1].tolist() == pytest.approx([9.425, 15.425, 30.575, 25.575])
    plain = load_crop_folders([tmp_path], size_px=40, ratio=1.4)
    assert np.array_equal(crops.boxes[0], plain.boxes[0])


def test_several_folders_are_read_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path / "second", "ok/a_1.png")
    write(tmp_path / "first", "stop/b_1.png")
    folders = [tmp_path / "second", tmp_path / "first"]
    crops = load_crop_folders(folders, size_px=32, ratio=1.0)
    assert [source_of(name) for name in crops.names] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "is no folder; expected class folders: thumbs_up"),
        (["a_1.png"], "has no class folder"),
        (["peace/a_1.png"], "peace is no class; known: thumbs_up"),
        (["fist/readme.txt"], "fist has no picture"),
    ],
)
def test_a_wrong_folder_is_one_line(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(b"")
    with pytest.raises(GestureError, match=message) as error:
        load_crop_folders([tmp_path / "own"], size_px=32, ratio=1.4)
    assert "\n" not in str(error.value)


def test_a_wrong_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path, "ok/tiny_1.png", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(GestureError, match=r"tiny_1.png is 3x3 pixels, expected 16 or more"):
        load_crop_folders([tmp_path], size_px=32, ratio=1.4)
    (tmp_path / "ok/tiny_1.png").write_bytes(b"no picture")
    with pytest.raises(GestureError, match=r"tiny_1.png cannot be decoded"):
        load_crop_folders([tmp_path], size_px=32, ratio=1.4)


def test_named_sources_are_held_out() -> None:
    sides = split_sources(crops_of("a/ok/1", "b/ok/1", "c/ok/1", "b/two/2"), test=["b"])
    assert {side: part.names for side, part in sides.items()} == {
        "train": ("a/ok/1", "c/ok/1"),
        "val": (),
        "test": ("b/ok/1", "b/two/2"),
    }


def test_drawn_sides_share_no_source_and_do_not_depend_on_the_order() -> None:
    names = [f"s{index}/ok/{picture}" for index in range(25) for picture in range(3)]
    sides = split_sources(crops_of(*names))
    sources = {side: {source_of(name) for name in part.names} for side, part in sides.items()}
    assert [len(sources[side]) for side in ("train", "val", "test")] == [21, 2, 2]
    assert len(set.union(*sources.values())) == 25
    again = split_sources(crops_of(*reversed(names)))
    assert set(again["test"].names) == set(sides["test"].names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"val": ["x"]}, "names the source 'x', known: a, b"),
        ({"val": ["a"], "test": ["a"]}, "'a' is on both sides"),
        ({"val": ["a"], "test": ["b"]}, "no source is left for training"),
        ({}, "have 2 sources .a, b., expected at least 3"),
    ],
)
def test_impossible_splits_are_one_line(given: dict, message: str) -> None:
    with pytest.raises(GestureError, match=message):
        split_sources(crops_of("a/ok/1", "b/ok/1"), **given)
