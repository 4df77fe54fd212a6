"""Labelled crops of one's own: folders DIR/<class>/<source>_<number>.jpg.

A crop is a square region around one hand, as the runtime cuts it and as
`python -m stages.gesturenet.label` writes it. The source (a person, a video, a data set) is the
file's name before its last underscore: pictures of one source are alike, so that the split goes by
source, never by picture.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from stages.gesturenet.config import GESTURES
from stages.gesturenet.crops import Crops, concatenate_crops, take_crops, unknown_joints
from stages.gesturenet.errors import GestureError
from stages.gesturenet.joint_table import hand_box, read_joints

SUFFIXES = (".jpg", ".jpeg", ".png")
MIN_SIDE_PX = 16  # of what is smaller not even a person can tell the gesture
SOURCE = re.compile(r"^(.+)_[^_]+$")
MIN_SOURCES_TO_DRAW = 3


def load_crop_folders(
    folders: Sequence[Path], *, size_px: int, ratio: float, joints: Path | None = None
) -> Crops:
    """Read every picture of the class folders, ordered by path; grey and transparent ones too.

    size_px: the side S that all crops get. ratio: the crop's side over the longer side of the
    hand's box, which is then in the middle (gesture.roi.ratio where the runtime's rule cut them).
    joints: a table of joint_table.py; the box of a hand whose joints it has follows from them.
    Names are "<source>/<class>/<file name>". Raises GestureError in one line for a folder that is
    not there, an unknown class, a class folder without pictures, and a picture that cannot be read
    or is smaller than 16 pixels.
    """
    paths = [path for folder in folders for path in list_pictures(folder)]
    known = read_joints(joints) if joints is not None else {}

    def load(path: Path) -> Crops:
        crop = _load_crop(path, size_px=size_px, ratio=ratio)
        places = known.get(f"{path.parent.name}/{path.name}")
        return crop if places is None else _with_joints(crop, places * size_px)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return concatenate_crops(list(pool.map(load, paths)))


def split_sources(
    crops: Crops, *, val: Sequence[str] = (), test: Sequence[str] = ()
) -> dict[str, Crops]:
    """Share the crops out to train, val and test by source.

    val, test: names of sources; where both are empty a tenth of the sources each, at least one, is
    taken by an order that depends on their names alone. Raises GestureError for an unknown source,
    one on both sides, too few to draw from, and when none is left for training.
    """
    sources = sorted({source_of(name) for name in crops.names})
    unknown = sorted({*val, *test} - set(sources))
    if unknown:
        raise GestureError(
            f"gesture.folders names the source {unknown[0]!r}, known: {', '.join(sources)}"
        )
    both = sorted(set(val) & set(test))
    if both:
        raise GestureError(
            f"the source {both[0]!r} is on both sides of gesture.folders; take it out of one"
        )
    if not val and not test:
        val, test = _draw_sources(sources)
    side_of = {**dict.fromkeys(val, "val"), **dict.fromkeys(test, "test")}
    sides = [side_of.get(source_of(name), "train") for name in crops.names]
    if "train" not in sides:
        raise GestureError(
            f"no source is left for training: gesture.folders.val {list(val)} and test "
            f"{list(test)} take all {len(sources)}; shorten one"
        )
    return {
        side: take_crops(crops, np.flatnonzero([one == side for one in sides]))
        for side in ("train", "val", "test")
    }


def source_of(name: str) -> str:
    """Return the source of a crop's name, as load_crop_folders gives them."""
    return name.partition("/")[0]


def list_pictures(folder: Path) -> list[Path]:
    """Return the pictures of class folders by path; GestureError as load_crop_folders has it."""
    if not folder.is_dir():
        raise GestureError(f"{folder} is no folder; expected class folders: {', '.join(GESTURES)}")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise GestureError(f"{folder} has no class folder; expected some of {', '.join(GESTURES)}")
    return [picture for one in classes for picture in _list_class(one)]


def _list_class(folder: Path) -> list[Path]:
    if folder.name not in GESTURES:
        raise GestureError(
            f"{folder} is no class; known: {', '.join(GESTURES)}; rename or remove the folder"
        )
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not pictures:
        raise GestureError(
            f"{folder} has no picture ({', '.join(SUFFIXES)}); add some or remove the folder"
        )
    return pictures


def _load_crop(path: Path, *, size_px: int, ratio: float) -> Crops:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise GestureError(f"{path} cannot be decoded as a picture; restore or remove it")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise GestureError(
            f"{path} is {width}x{height} pixels, expected {MIN_SIDE_PX} or more; remove it"
        )
    half = size_px / (2.0 * ratio)
    box = np.array([size_px / 2 - half] * 2 + [size_px / 2 + half] * 2, np.float32)
    size = (size_px, size_px)
    shrinks = max(height, width) > size_px
    resized = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    match = SOURCE.match(path.stem)
    source = match[1] if match else path.stem
    name = f"{source}/{path.parent.name}/{path.name}"
    class_id = np.array([GESTURES.index(path.parent.name)], np.int64)
    return Crops(resized[None], box[None], class_id, (name,), unknown_joints(1))


def _with_joints(crop: Crops, joints: np.ndarray) -> Crops:
    """Return one crop with the joints (21, 2) of its hand, in pixels, and the box around them."""
    return crop._replace(boxes=hand_box(joints)[None], joints=joints[None])


def _draw_sources(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    if len(sources) < MIN_SOURCES_TO_DRAW:
        raise GestureError(
            f"the crop folders have {len(sources)} sources ({', '.join(sources)}), expected at "
            f"least {MIN_SOURCES_TO_DRAW} to split; name gesture.folders.val and test, or name "
            "the files of each person by themselves: <source>_<number>.jpg"
        )
    order = _by_hash(sources)
    share = max(1, len(sources) // 10)
    return order[:share], order[share : 2 * share]


def _by_hash(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
