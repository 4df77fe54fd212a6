"""A tiny data set: bright squares on grey noise, in memory or as a KITTI folder."""

from pathlib import Path

import cv2
import numpy as np

from deploy.core.cluster import Postprocess
from deploy.core.kitti import format_labels, hand_label
from stages.detectnet.config import AugmentConfig
from stages.detectnet.data import Samples

# Every change of pictures is on, and changes nothing.
STILL = AugmentConfig(
    hflip_probability=0.0,
    translate_max_x=0,
    translate_max_y=0,
    zoom_min=1.0,
    zoom_max=1.0,
    hue_rotation_max=0.0,
    saturation_shift_max=0.0,
    contrast_scale_max=0.0,
    brightness_scale_max=0.0,
)
INPUT_WH = (96, 64)
POSTPROCESS = Postprocess("nms", 0.05, 0.3, 1.0, 0.4, "max", 0.5, 4.0)


def draw_samples(count: int, *, seed: int = 0) -> Samples:
    """Draw pictures with one or two red squares each, boxes exact."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 100, (count, INPUT_WH[1], INPUT_WH[0], 3), dtype=np.uint8)
    boxes = []
    for image in images:
        frame = []
        for left in (0, 48)[: rng.integers(1, 3)]:
            x, y = left + int(rng.integers(2, 20)), int(rng.integers(2, 36))
            side = int(rng.integers(16, 27))
            image[y : y + side, x : x + side] = (230, 40, 40)
            frame.append((x, y, x + side, y + side))
        boxes.append(np.array(frame, dtype=np.float32))
    stems = tuple(f"V{index % 2}_frame_{index:04d}" for index in range(count))
    return Samples(stems, images, tuple(boxes), np.array([INPUT_WH] * count))


def write_kitti(folder: Path, samples: Samples) -> None:
    """Write images/ (PNG, so that pixels stay) and labels/."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for stem, image, boxes in zip(samples.stems, samples.images, samples.boxes, strict=True):
        cv2.imwrite(str(folder / "images" / f"{stem}.png"), image[..., ::-1])
        text = format_labels([hand_label(box) for box in boxes])
        (folder / "labels" / f"{stem}.txt").write_text(text)
