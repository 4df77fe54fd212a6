"""What a camera and its light make of a picture: gamma, a shadow across, grey, blur, JPEG.

Off by default; conf/gesture/real.yaml has them. A batch's changes are drawn first, in one order
(`draw_finishes`), and nothing is drawn while all are off; `apply_finish` is a pure function.
"""

from typing import NamedTuple

import cv2
import numpy as np

from stages.gesturenet.config import GestureAugmentConfig

MIN_BLUR_SIGMA = 0.5
MAX_JPEG_QUALITY = 90


class Finish(NamedTuple):
    """gamma: exponent of pixels in [0, 1]. shade: (2,) change of brightness from the picture's
    middle to its right and lower border, as fractions. blur_sigma: pixels, 0 = none.
    jpeg_quality: 1 to 100, 0 = none."""

    gamma: float = 1.0
    is_grey: bool = False
    shade: tuple[float, float] = (0.0, 0.0)
    blur_sigma: float = 0.0
    jpeg_quality: int = 0


NO_FINISH = Finish()


def draw_finishes(
    num: int, generator: np.random.Generator, config: GestureAugmentConfig
) -> list[Finish]:
    """Draw what happens to each of `num` crops."""
    if not (
        config.gamma_max
        or config.grey_probability
        or config.shade_probability
        or config.blur_probability
        or config.jpeg_probability
    ):
        return [NO_FINISH] * num
    return [_draw_finish(generator, config) for _crop in range(num)]


def apply_finish(image: np.ndarray, finish: Finish) -> np.ndarray:
    """Return the finished picture (H, W, 3) uint8 BGR."""
    if finish.is_grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if finish.gamma != 1.0:
        table = 255 * (np.arange(256) / 255) ** finish.gamma
        image = cv2.LUT(image, table.round().astype(np.uint8))
    if any(finish.shade):
        image = _shade(image, finish.shade)
    if finish.blur_sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), finish.blur_sigma)
    return _compress(image, finish.jpeg_quality) if finish.jpeg_quality else image


def _draw_finish(generator: np.random.Generator, config: GestureAugmentConfig) -> Finish:
    """Draw one; every number is drawn whatever happens, so that crops do not depend on others."""
    chances = generator.random(4)
    gamma, angle, depth, blur, quality = generator.random(5)
    shade = config.shade_max * depth * np.array([np.cos(angle * 6.28), np.sin(angle * 6.28)])
    low, high = MIN_BLUR_SIGMA, max(config.blur_max_sigma, MIN_BLUR_SIGMA)
    least = min(config.jpeg_min_quality, MAX_JPEG_QUALITY)
    has_shade = chances[1] < config.shade_probability
    return Finish(
        gamma=float(np.exp(config.gamma_max * (2 * gamma - 1))) if config.gamma_max else 1.0,
        is_grey=bool(chances[0] < config.grey_probability),
        shade=(float(shade[0]), float(shade[1])) if has_shade else (0.0, 0.0),
        blur_sigma=low + (high - low) * blur if chances[2] < config.blur_probability else 0.0,
        jpeg_quality=int(least + (MAX_JPEG_QUALITY - least) * quality)
        if chances[3] < config.jpeg_probability
        else 0,
    )


def _shade(image: np.ndarray, shade: tuple[float, float]) -> np.ndarray:
    x = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
    gain = 1 + shade[0] * x + shade[1] * y  # (H, W)
    return np.clip(image * gain[..., None], 0, 255).astype(np.uint8)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded, "a uint8 BGR picture always encodes"
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
