"""Labelled crops of hands in memory: what training and measuring read, wherever the crops come from.

`load_labelled_crops` cuts them out of a converted dataset: images/<stem>.<suffix>, labels/<stem>.txt (KITTI) and
gestures.csv (header `stem,row,gesture`; row = line of the label file, from 0).
"""

import csv
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deploy.core.kitti import read_labels
from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from stages.gesturenet.config import GESTURES
from stages.gesturenet.errors import GestureError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Crops(NamedTuple):
    """Square pictures of one hand each.

    images: (N, S, S, 3) uint8 BGR. boxes: (N, 4) float32 xyxy of the hand in crop pixels.
    class_id: (N,) int64, index into config.GESTURES. names: where each crop comes from.
    """

    images: np.ndarray
    boxes: np.ndarray
    class_id: np.ndarray
    names: tuple[str, ...]


class LabelledHand(NamedTuple):
    """One row of gestures.csv: `row` is a line of the label file, from 0."""

    stem: str
    row: int
    gesture: str


def read_gestures(path: Path) -> list[LabelledHand]:
    """Read gestures.csv; a file with its header alone gives an empty list.

    Raises: GestureError for another header, an unknown gesture or a row that is no count.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != ["stem", "row", "gesture"]:
            raise GestureError(
                f"{path} starts with {','.join(header)!r}, expected 'stem,row,gesture'; "
                "run the convert stage again"
            )
        return [_parse_row(values, f"{path}, line {reader.line_num}") for values in reader]


def load_labelled_crops(
    kitti_dir: Path, stems: Iterable[str], *, rule: RoiRule, size_px: int
) -> Crops:
    """Cut the region of every labelled hand of the given frames, ordered by stem and row.

    rule: how a tight box becomes a region; size_px: side S of the crops. Frames are decoded on all
    cores. No labelled hand gives N = 0.
    Raises: GestureError for a missing or unreadable picture or a row outside its label file.
    """
    wanted = set(stems)
    rows: dict[str, list[LabelledHand]] = {}
    for hand in sorted(read_gestures(kitti_dir / "gestures.csv")):
        if hand.stem in wanted:
            rows.setdefault(hand.stem, []).append(hand)
    files = _images_by_stem(kitti_dir / "images")

    def cut(hands: list[LabelledHand]) -> Crops:
        return _cut_frame(hands, kitti_dir, files, rule=rule, size_px=size_px)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return concatenate_crops([_empty(size_px), *pool.map(cut, rows.values())])


def concatenate_crops(parts: Sequence[Crops]) -> Crops:
    """Join crops of one side S in the given order; at least one part, which may be empty."""
    return Crops(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.class_id for part in parts]),
        tuple(name for part in parts for name in part.names),
    )


def take_crops(crops: Crops, indices: np.ndarray) -> Crops:
    """Return the crops at indices (M,), in that order."""
    names = tuple(crops.names[index] for index in indices)
    return Crops(crops.images[indices], crops.boxes[indices], crops.class_id[indices], names)


def boxes_in_regions(xyxy: np.ndarray, regions: np.ndarray, *, size_px: int) -> np.ndarray:
    """Move boxes (N, 4) from frame pixels to the pixels of square crops made of regions (N, 4).

    Exact for regions with whole-pixel edges; crop_regions rounds others outwards by less than a pixel.
    """
    low, extent = regions[:, :2], regions[:, 2:] - regions[:, :2]
    corners = (xyxy.reshape(-1, 2, 2) - low[:, None]) / extent[:, None]  # (N, 2, 2)
    return (corners * size_px).reshape(-1, 4).astype(np.float32)


def _parse_row(values: list[str], place: str) -> LabelledHand:
    if len(values) != 3 or not values[1].isdigit():
        raise GestureError(
            f"{place}: {','.join(values)!r} is not 'stem,row,gesture' with a row from 0; "
            "run the convert stage again"
        )
    stem, row, gesture = values
    if gesture not in GESTURES:
        raise GestureError(
            f"{place}: gesture {gesture!r} is unknown, known: {', '.join(GESTURES)}; correct the label"
        )
    return LabelledHand(stem, int(row), gesture)


def _images_by_stem(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES}


def _cut_frame(
    hands: list[LabelledHand],
    kitti_dir: Path,
    files: dict[str, Path],
    *,
    rule: RoiRule,
    size_px: int,
) -> Crops:
    stem = hands[0].stem
    image = _read_image(files, stem, kitti_dir)
    boxes = _label_boxes(kitti_dir / "labels" / f"{stem}.txt", [hand.row for hand in hands])
    regions = expand_boxes(boxes, rule, image_wh=(image.shape[1], image.shape[0]))
    return Crops(
        crop_regions(image, regions, size_wh=(size_px, size_px)),
        boxes_in_regions(boxes, regions, size_px=size_px),
        np.array([GESTURES.index(hand.gesture) for hand in hands], np.int64),
        tuple(f"{stem}#{hand.row}" for hand in hands),
    )


def _read_image(files: dict[str, Path], stem: str, kitti_dir: Path) -> np.ndarray:
    if stem not in files:
        raise GestureError(
            f"{kitti_dir / 'images'} has no picture {stem!r}, which gestures.csv labels; "
            "run the convert stage again"
        )
    image = cv2.imread(str(files[stem]), cv2.IMREAD_COLOR)
    if image is None:
        raise GestureError(
            f"{files[stem]} cannot be decoded as a picture; download or convert it again"
        )
    return image


def _label_boxes(path: Path, rows: list[int]) -> np.ndarray:
    labels = read_labels(str(path))
    if max(rows) >= len(labels):
        raise GestureError(
            f"{path} has {len(labels)} lines, but gestures.csv names line {max(rows)} (from 0); "
            "run the convert stage again"
        )
    return np.array([labels[row].bbox for row in rows], np.float32)


def _empty(size_px: int) -> Crops:
    return Crops(
        np.zeros((0, size_px, size_px, 3), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        (),
    )
