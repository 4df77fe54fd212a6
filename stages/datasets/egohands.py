"""Read videos in the EgoHands layout: frame_NNNN.jpg, polygons.mat and perhaps gestures.json.

polygons.mat holds `polygons`, a 1xN struct with the fields myleft, myright, yourleft, yourright,
each (K, 2) x and y in pixels or empty; its rows follow the frames in the order of their file
names. Source: EgoHands README; Bambach, Lee, Crandall, Yu, "Lending a hand", ICCV 2015.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.datasets.errors import DatasetError
from stages.datasets.frames import Gesture, LabelledFrame, VideoFrames, count_fates
from stages.datasets.headers import JPEG_SUFFIXES, read_image_size
from stages.datasets.polygons import Fate, PolygonBoxes, box_polygons

HAND_FIELDS = ("myleft", "myright", "yourleft", "yourright")
GESTURES_SCHEMA = 1
LAST_NUMBER = re.compile(r"([0-9]+)[^0-9]*$")

Row = Sequence[np.ndarray]  # the polygons of one frame, in the order of HAND_FIELDS
RowGestures = Mapping[str, str | None]  # by hand field; None = no clear gesture


def list_videos(samples: Path) -> list[Path]:
    """Return the folders of videos, sorted by name; DatasetError when there is none."""
    videos = sorted(path for path in samples.glob("*") if path.is_dir())
    if not videos:
        raise DatasetError(f"{samples} holds no video folder; run the download stage again")
    return videos


def read_video(folder: Path, *, train_only: bool = False) -> VideoFrames:
    """Read the frames, boxes and gestures of one video.

    A polygon without area (or fewer than 3 points) and one outside the image is dropped; one that
    reaches over the edge is clipped; all are counted. train_only: whether the frames are kept out
    of validation and test. Raises DatasetError for missing
    polygons.mat, more or fewer frames than rows, an unreadable image, missing fields, and wrong
    gestures.
    """
    images = _list_images(folder)
    rows = read_polygons(folder / "polygons.mat")
    if len(images) != len(rows):
        raise DatasetError(
            f"{folder} has {len(images)} frames and polygons.mat {len(rows)} rows, expected one "
            "row a frame; bring the missing files or take the video out"
        )
    gestures = read_gestures(folder / "gestures.json", rows)
    sizes = [read_image_size(image) for image in images]
    boxes = _box_rows(rows, sizes)
    frames = [
        _frame(folder.name, image, size, row, box, gesture)._replace(train_only=train_only)
        for image, size, row, box, gesture in zip(
            images, sizes, rows, boxes, gestures, strict=True
        )
    ]
    counts = count_fates(np.concatenate([box.fate for box in boxes])) if boxes else {}
    return VideoFrames(folder.name, frames, counts)


def read_polygons(path: Path) -> list[Row]:
    """Return the rows of a polygons.mat; an absent hand is an array without points.

    Raises DatasetError when the file is missing, unreadable or lacks a field.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise DatasetError(
            f"{path} is missing, expected the labels of the frames beside it; bring it or take "
            "the video out"
        )
    try:
        struct = loadmat(path, variable_names=["polygons"])["polygons"]
    except Exception as error:  # broken bytes raise a dozen kinds, scipy's own among them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{path} cannot be read ({reason}), expected a MATLAB 5 file with the struct "
            "polygons; bring a whole copy, or save it with -v7"
        ) from error
    names = struct.dtype.names or ()
    missing = [name for name in HAND_FIELDS if name not in names]
    if missing:
        raise DatasetError(
            f"{path}: polygons has the fields {', '.join(names) or 'none'}, expected "
            f"{', '.join(HAND_FIELDS)}; rename them in the file"
        )
    columns = [struct[name].ravel() for name in HAND_FIELDS]
    rows = list(zip(*columns, strict=True))
    empty = np.zeros((0, 2))
    return [
        [points if points.size else empty for points in _check_row(row, path, number)]
        for number, row in enumerate(rows)
    ]


def read_gestures(path: Path, rows: Sequence[Row]) -> list[RowGestures]:
    """Return the gesture names by hand field for every row; without the file nobody has one.

    Raises DatasetError for another schema, count, field or name, and for a hand without a polygon.
    """
    if not path.is_file():
        return [{} for _ in rows]
    try:
        content = json.loads(path.read_text())
        schema, frames = content["schema"], content["frames"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({type(error).__name__}: {error}), expected schema and "
            "frames; correct the file"
        ) from error
    if schema != GESTURES_SCHEMA or len(frames) != len(rows):
        raise DatasetError(
            f"{path} has schema {schema} and {len(frames)} frames, expected schema "
            f"{GESTURES_SCHEMA} and {len(rows)} frames; correct the file"
        )
    for number, (frame, row) in enumerate(zip(frames, rows, strict=True)):
        _check_gestures(frame, row, f"{path}: frame {number}")
    return frames


def _list_images(folder: Path) -> list[str]:
    names = sorted(
        name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in JPEG_SUFFIXES
    )
    return [os.path.join(folder, name) for name in names]


def _check_row(row: Row, path: Path, number: int) -> Row:
    for name, points in zip(HAND_FIELDS, row, strict=True):
        wrong_type = points.dtype.kind not in "fiu"
        if points.size and (wrong_type or (len(points) >= 3 and points.shape[1:] != (2,))):
            raise DatasetError(
                f"{path}: row {number + 1}, {name} is {points.dtype} {points.shape}, expected "
                "numbers (K, 2), or empty; correct the file"
            )
    return row


def _hands(row: Row) -> list[str]:
    return [name for name, points in zip(HAND_FIELDS, row, strict=True) if points.size]


def _check_gestures(frame: Any, row: Row, where: str) -> None:
    hands = set(_hands(row))
    known = {gesture.value for gesture in Gesture}
    if not isinstance(frame, dict) or not set(frame) <= hands:
        raise DatasetError(
            f"{where} is {frame!r}, expected gestures of the hands with a polygon "
            f"({', '.join(sorted(hands)) or 'none'}); correct the file"
        )
    for name in frame.values():
        if name is not None and name not in known:
            raise DatasetError(
                f"{where} has the gesture {name!r}, known: {', '.join(sorted(known))}, null; "
                "correct the file"
            )


def _box_rows(rows: Sequence[Row], sizes: Sequence[tuple[int, int]]) -> list[PolygonBoxes]:
    """Box all hands of a video at once (per image size, of which there is one as a rule).

    Returns per frame the boxes and fates of the hands that have points, in the order of
    HAND_FIELDS.
    """
    result: list[PolygonBoxes] = [PolygonBoxes(np.zeros((0, 4)), np.zeros(0))] * len(rows)
    for size in set(sizes):
        members = [i for i, other in enumerate(sizes) if other == size]
        hands = [[points for points in rows[i] if points.size] for i in members]
        boxes = box_polygons([points for row in hands for points in row], size)
        end = 0
        for i, row in zip(members, hands, strict=True):
            start, end = end, end + len(row)
            result[i] = PolygonBoxes(boxes.xyxy[start:end], boxes.fate[start:end])
    return result


def _frame(
    video: str,
    image: str,
    size: tuple[int, int],
    row: Row,
    boxes: PolygonBoxes,
    gestures: RowGestures,
) -> LabelledFrame:
    """Put one frame together. boxes: of the hands of `row` that have points."""
    kept = [fate <= Fate.CLIPPED for fate in boxes.fate.tolist()]
    xyxy = boxes.xyxy if all(kept) else boxes.xyxy[kept]
    names = {}
    if gestures:
        left = [name for name, keep in zip(_hands(row), kept, strict=True) if keep]
        names = {place: text for place, name in enumerate(left) if (text := gestures.get(name))}
    name = os.path.splitext(os.path.basename(image))[0]
    number = LAST_NUMBER.search(name)
    frame = int(number[1]) if number else 0
    return LabelledFrame(f"{video}_{name}", video, frame, False, image, size, xyxy, names)
