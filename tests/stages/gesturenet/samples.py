"""Small drawn-by-rule data for the gesture tests: bright bars, one orientation per class."""

from pathlib import Path

import cv2
import numpy as np

from deploy.core.kitti import format_labels, hand_label
from stages.datasets.index import GestureRow, write_gestures, write_stems
from stages.gesturenet.config import GESTURES
from stages.gesturenet.crops import Crops, unknown_joints

FRAME_WH = (320, 200)


def striped_hand(class_id: int, size_px: int, generator: np.random.Generator) -> np.ndarray:
    """Return a picture (size_px, size_px, 3) of a bar at class_id * 30 degrees, on noise."""
    picture = generator.integers(0, 60, (size_px, size_px, 3), np.uint8)
    angle = np.deg2rad(30 * class_id)
    half = 0.42 * size_px * np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([size_px, size_px]) / 2
    ends = [tuple(int(value) for value in middle + sign * half) for sign in (-1, 1)]
    cv2.line(picture, ends[0], ends[1], (120, 160, 230), max(2, size_px // 8))
    return picture


def striped_crops(
    num_per_class: int, *, size_px: int, seed: int = 0, box_frac: float = 0.5
) -> Crops:
    """Return crops of all classes in turn; the bar fills box_frac of the side, in the middle."""
    generator = np.random.default_rng(seed)
    class_id = np.tile(np.arange(len(GESTURES)), num_per_class)
    inner = int(size_px * box_frac)
    low = (size_px - inner) // 2
    images = generator.integers(0, 60, (len(class_id), size_px, size_px, 3), np.uint8)
    for image, one in zip(images, class_id, strict=True):
        image[low : low + inner, low : low + inner] = striped_hand(one, inner, generator)
    boxes = np.tile(np.float32([low, low, low + inner, low + inner]), (len(class_id), 1))
    names = tuple(f"crop{index}" for index in range(len(class_id)))
    return Crops(images, boxes, class_id, names, unknown_joints(len(class_id)))


def write_kitti(root: Path, *, num_frames: int, labelled: bool = True) -> None:
    """Write data/kitti and data/split below root; each frame has one hand of each class."""
    kitti, split = root / "data" / "kitti", root / "data" / "split"
    for folder in (kitti / "images", kitti / "labels", split):
        folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    stems = [f"A_B_C_D_frame_{index:04d}" for index in range(num_frames)]
    for stem in stems:
        frame = generator.integers(0, 60, (FRAME_WH[1], FRAME_WH[0], 3), np.uint8)
        boxes = [_place(index) for index in range(len(GESTURES))]
        for index, (x_min, y_min, x_max, y_max) in enumerate(boxes):
            frame[y_min:y_max, x_min:x_max] = striped_hand(index, x_max - x_min, generator)
        cv2.imwrite(str(kitti / "images" / f"{stem}.png"), frame)
        text = format_labels([hand_label(box) for box in boxes])
        (kitti / "labels" / f"{stem}.txt").write_text(text)
    rows = [GestureRow(stem, row, name) for stem in stems for row, name in enumerate(GESTURES)]
    write_gestures(kitti / "gestures.csv", rows if labelled else [])
    third = num_frames // 3
    sides = {"test": stems[:third], "val": stems[third : 2 * third], "train": stems[2 * third :]}
    for side, chosen in sides.items():
        write_stems(split / f"{side}.txt", chosen)


def _place(index: int) -> tuple[int, int, int, int]:
    x, y = 20 + 100 * (index % 3), 20 + 90 * (index // 3)
    return x, y, x + 60, y + 60
