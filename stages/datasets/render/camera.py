"""The camera: defocus, sensor noise, and JPEG."""

from typing import NamedTuple

import cv2
import numpy as np

_TILE = 320  # pixels after which the noise repeats
_PLAY = 64  # pixels by which it moves from frame to frame


class Camera(NamedTuple):
    blur_sigma: float  # pixels; under 0.3 no blur
    noise: np.ndarray  # at least (H + _PLAY, W + _PLAY, 3) uint8 around 32
    quality: int


def random_camera(
    rng: np.random.Generator, image_wh: tuple[int, int], *, noise: float, quality: int
) -> Camera:
    """One video's camera; noise in grey levels is the upper end of what is drawn."""
    level = float(rng.uniform(0.25, 1.0)) * noise
    white = rng.standard_normal((_TILE + 16, _TILE + 16), np.float32)
    soft = cv2.GaussianBlur(white, (3, 3), 0.6) * 1.6
    shifted = [soft[y : y - 16, x : x - 16] for y, x in ((1, 2), (8, 11), (13, 5))]
    mixed = cv2.merge([0.9 * soft[:-16, :-16] + 0.45 * part for part in shifted])
    grains = np.clip(mixed * level + 32.5, 0, 64).astype(np.uint8)
    repeats = [-(-(length + _PLAY) // _TILE) for length in image_wh[::-1]]
    grains = np.tile(grains, (*repeats, 1))
    sigma = float(rng.choice([0.0, 0.0, 0.6, 0.9, 1.3]))
    return Camera(sigma, grains, int(np.clip(quality + rng.integers(-8, 5), 30, 100)))


def expose(frame: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Turn a clean (H, W, 3) uint8 frame into what the camera records."""
    if camera.blur_sigma > 0.3:
        frame = cv2.GaussianBlur(frame, (5, 5), camera.blur_sigma)
    y, x = (int(v) for v in rng.integers(0, _PLAY, 2))
    grains = camera.noise[y : y + frame.shape[0], x : x + frame.shape[1]]
    return cv2.addWeighted(frame, 1.0, grains, 1.0, -32.0)
