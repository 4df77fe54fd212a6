"""The camera: defocus, sensor noise, and JPEG."""

from typing import NamedTuple

import cv2
import numpy as np


class Camera(NamedTuple):
    blur_sigma: float  # pixels; under 0.3 no blur
    noise: np.ndarray  # (H + 64, W + 64, 3) uint8 around 32
    quality: int


def random_camera(
    rng: np.random.Generator, image_wh: tuple[int, int], *, noise: float, quality: int
) -> Camera:
    """One video's camera; noise in grey levels is the upper end of what is drawn."""
    level = float(rng.uniform(0.25, 1.0)) * noise
    shape = (image_wh[1] + 64, image_wh[0] + 64)
    grey = cv2.GaussianBlur(rng.normal(0, 1.6, shape).astype(np.float32), (3, 3), 0.6)
    hue = rng.normal(0, 0.5, (*shape, 3)).astype(np.float32)
    grains = np.clip(32.5 + level * (grey[..., None] + hue), 0, 64).astype(np.uint8)
    sigma = float(rng.choice([0.0, 0.0, 0.6, 0.9, 1.3]))
    return Camera(sigma, grains, int(np.clip(quality + rng.integers(-8, 5), 30, 100)))


def expose(frame: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Turn a clean (H, W, 3) uint8 frame into what the camera records."""
    if camera.blur_sigma > 0.3:
        frame = cv2.GaussianBlur(frame, (5, 5), camera.blur_sigma)
    y, x = (int(v) for v in rng.integers(0, 64, 2))
    grains = camera.noise[y : y + frame.shape[0], x : x + frame.shape[1]]
    return cv2.addWeighted(frame, 1.0, grains, 1.0, -32.0)
