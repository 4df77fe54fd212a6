"""What may look how in which split: tones, hues and materials of train, val and test never meet.

The continuous ranges (depth of skin tone, hue of cloth and rooms) are cut into 30 cells; every
sixth cell belongs to val, every sixth to test, the others to train. Families of rooms and cloth
patterns are listed per split. So an unseen split has other people, clothes and rooms over the same
whole range.
"""

from typing import NamedTuple

import cv2
import numpy as np

SPLITS = ("train", "val", "test")
_CELLS = 30
_OWNED = {"train": (0, 1, 3, 4), "val": (2,), "test": (5,)}
WALLS = {
    "train": ("plaster", "wallpaper", "shelf", "panels"),
    "val": ("blinds", "gradient"),
    "test": ("brick", "curtain"),
}
TABLES = {
    "train": ("wood", "check", "laminate", "marble"),
    "val": ("planks", "felt"),
    "test": ("tiles", "parquet"),
}
CLOTHS = {
    "train": ("plain", "stripes", "check", "melange"),
    "val": ("plain", "rings"),
    "test": ("plain", "zigzag"),
}


def sample_unit(rng: np.random.Generator, split: str) -> float:
    """Draw from a split's part of [0, 1). Raises KeyError for an unknown split."""
    owned = _OWNED[split]
    cell = 6 * int(rng.integers(_CELLS // 6)) + owned[int(rng.integers(len(owned)))]
    return (cell + float(rng.uniform(0.02, 0.98))) / _CELLS


def owner_of(value: float) -> str:
    """Name the split that a value of sample_unit belongs to."""
    cell = int(value * _CELLS) % 6
    return next(split for split, owned in _OWNED.items() if cell in owned)


def colour_of(hue: float, saturation: float, value: float) -> np.ndarray:
    """BGR 0..255 float32 (3,) of a hue, saturation and value in [0, 1]."""
    pixel = np.array([[[hue * 360.0, saturation, value]]], np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] * 255.0


class Cloth(NamedTuple):
    colour: np.ndarray  # (3,) BGR
    second: np.ndarray  # (3,) BGR
    pattern: str
    pitch: float  # of the pattern, in limb radii


def random_cloth(rng: np.random.Generator, split: str) -> Cloth:
    hue = sample_unit(rng, split)
    saturation, value = rng.uniform(0.02, 0.8) ** 1.3, rng.uniform(0.12, 0.92)
    colour = colour_of(hue, saturation, value)
    second = colour_of(sample_unit(rng, split), rng.uniform(0.0, 0.6), rng.uniform(0.1, 0.95))
    names = CLOTHS[split]
    return Cloth(
        colour, second, names[int(rng.integers(len(names)))], float(rng.uniform(0.35, 1.1))
    )
