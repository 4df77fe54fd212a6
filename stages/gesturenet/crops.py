"""Labelled crops of hands in memory: what training and measuring read.

`load_labelled_crops` cuts them out of a converted dataset (stages.datasets.convert): images, KITTI
labels and gestures.csv.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from deploy.core.events import IDLE_CLASSES
from deploy.core.kitti import read_labels
from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from stages.datasets.index import GestureRow, find_image, read_gestures, read_index
from stages.gesturenet.config import GESTURES
from stages.gesturenet.errors import GestureError

LOGGER = logging.getLogger(__name__)
# Of hands that show none; the runtime tells no events of this class.
(NO_GESTURE,) = IDLE_CLASSES
# Wrist, then four from the root to the tip of thumb, index, middle, ring and little finger: the
# order of the drawn hands, and of the usual hand trackers.
NUM_JOINTS = 21


class Crops(NamedTuple):
    """Square pictures of one hand each.

    images: (N, S, S, 3) uint8 BGR. boxes: (N, 4) float32 xyxy of the hand in crop pixels.
    class_id: (N,) int64, index into config.GESTURES. names: where each crop comes from. joints:
    (N, 21, 2) float32, the hand's joints in crop pixels, as NUM_JOINTS says; NaN where unknown.
    """

    images: np.ndarray
    boxes: np.ndarray
    class_id: np.ndarray
    names: tuple[str, ...]
    joints: np.ndarray


def load_labelled_crops(
    kitti_dir: Path, stems: Iterable[str], *, rule: RoiRule, size_px: int
) -> Crops:
    """Cut the region of every labelled hand of the given frames, ordered by stem and row.

    rule: how a tight box becomes a region; size_px: side S of the crops. Frames are decoded on all
    cores. No labelled hand gives N = 0. Raises: DatasetError for a missing table or picture;
    GestureError for an unreadable picture, an unknown gesture or a row outside its label file.
    """
    wanted = set(stems)
    hands: dict[str, list[GestureRow]] = {}
    for hand in sorted(read_gestures(kitti_dir / "gestures.csv")):
        if hand.stem in wanted:
            hands.setdefault(hand.stem, []).append(hand)

    def cut(frame_hands: list[GestureRow]) -> Crops:
        return _cut_frame(frame_hands, kitti_dir, rule=rule, size_px=size_px)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return concatenate_crops([empty_crops(size_px), *pool.map(cut, hands.values())])


def load_unlabelled_crops(
    kitti_dir: Path, stems: Iterable[str], *, rule: RoiRule, size_px: int
) -> Crops:
    """Cut the hands of those given frames whose video has no labelled gesture at all, as `random`.

    In a video with gestures a hand without a label is one that is neither. Frames of
    dataset.extra_train do not count: what their hands do is not known. Otherwise as
    load_labelled_crops.
    """
    rows = read_index(kitti_dir / "index.csv")
    video_of = {row.stem: row.video for row in rows}
    has_gestures = {video_of[hand.stem] for hand in read_gestures(kitti_dir / "gestures.csv")}
    is_foreign = {row.stem for row in rows if row.train_only}

    def cut(stem: str) -> Crops:
        num = len(read_labels(str(kitti_dir / "labels" / f"{stem}.txt")))
        hands = [GestureRow(stem, row, NO_GESTURE) for row in range(num)]
        return _cut_frame(hands, kitti_dir, rule=rule, size_px=size_px) if num else none

    none = empty_crops(size_px)
    own = set(stems) - is_foreign
    wanted = sorted(stem for stem in own if video_of[stem] not in has_gestures)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return concatenate_crops([none, *pool.map(cut, wanted)])


def check_classes(crops: Crops) -> None:
    """Warn of gestures without a crop. Raises GestureError when fewer than two are there."""
    missing = [name for index, name in enumerate(GESTURES) if index not in crops.class_id]
    if len(missing) > len(GESTURES) - 2:
        raise GestureError(
            f"the training frames have labelled crops of {len(GESTURES) - len(missing)} gestures, "
            "expected at least 2; label more hands, or split the videos otherwise"
        )
    if missing:
        LOGGER.warning(
            "gesture: no training crop of %s, it will never be seen", ", ".join(missing)
        )


def concatenate_crops(parts: Sequence[Crops]) -> Crops:
    """Join crops of one side S in the given order; at least one part, which may be empty."""
    return Crops(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.class_id for part in parts]),
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.joints for part in parts]),
    )


def take_crops(crops: Crops, indices: np.ndarray) -> Crops:
    """Return the crops at indices (M,), in that order."""
    names = tuple(crops.names[index] for index in indices)
    return Crops(
        crops.images[indices],
        crops.boxes[indices],
        crops.class_id[indices],
        names,
        crops.joints[indices],
    )


def boxes_in_regions(xyxy: np.ndarray, regions: np.ndarray, *, size_px: int) -> np.ndarray:
    """Move boxes (N, 4) from frame pixels to the pixels of square crops made of regions (N, 4).

    Exact for regions with whole-pixel edges; crop_regions rounds others outwards by less than a
    pixel.
    """
    corners = points_in_regions(xyxy.reshape(-1, 2, 2), regions, size_px=size_px)  # (N, 2, 2)
    return corners.reshape(-1, 4)


def points_in_regions(points: np.ndarray, regions: np.ndarray, *, size_px: int) -> np.ndarray:
    """Move points (N, K, 2) as boxes_in_regions moves corners: (N, K, 2) float32."""
    low, extent = regions[:, :2], regions[:, 2:] - regions[:, :2]
    return ((points - low[:, None]) / extent[:, None] * size_px).astype(np.float32)


def unknown_joints(num: int) -> np.ndarray:
    """Return the joints (num, 21, 2) of hands whose joints nobody knows."""
    return np.full((num, NUM_JOINTS, 2), np.nan, np.float32)


def _cut_frame(hands: list[GestureRow], kitti_dir: Path, *, rule: RoiRule, size_px: int) -> Crops:
    stem = hands[0].stem
    image = _read_image(find_image(kitti_dir, stem))
    boxes = _label_boxes(kitti_dir / "labels" / f"{stem}.txt", [hand.row for hand in hands])
    regions = expand_boxes(boxes, rule, image_wh=(image.shape[1], image.shape[0]))
    return Crops(
        crop_regions(image, regions, size_wh=(size_px, size_px)),
        boxes_in_regions(boxes, regions, size_px=size_px),
        np.array([_class_id(hand) for hand in hands], np.int64),
        tuple(f"{stem}#{hand.row}" for hand in hands),
        unknown_joints(len(hands)),
    )


def _class_id(hand: GestureRow) -> int:
    if hand.gesture not in GESTURES:
        raise GestureError(
            f"gestures.csv: {hand.stem} row {hand.row} has the gesture {hand.gesture!r}, known: "
            f"{', '.join(GESTURES)}; correct the label"
        )
    return GESTURES.index(hand.gesture)


def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise GestureError(
            f"{path} cannot be decoded as a picture; run the download and convert stages again"
        )
    return image


def _label_boxes(path: Path, rows: list[int]) -> np.ndarray:
    labels = read_labels(str(path))
    if max(rows) >= len(labels):
        raise GestureError(
            f"{path} has {len(labels)} lines, but gestures.csv names row {max(rows)} (from 0); "
            "run the convert stage again"
        )
    return np.array([labels[row].bbox for row in rows], np.float32)


def empty_crops(size_px: int) -> Crops:
    """Return no crops, of the side that others have."""
    return Crops(
        np.zeros((0, size_px, size_px, 3), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        (),
        unknown_joints(0),
    )
