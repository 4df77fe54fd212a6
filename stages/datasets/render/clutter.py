"""Objects of a room: boxes, books, cards, mugs, balls, plants, pens and papers, as layers."""

from collections.abc import Callable

import cv2
import numpy as np

from stages.datasets.render.appearance import colour_of, sample_unit
from stages.datasets.render.layer import Layer

Canvas = np.ndarray  # (S, S, 4) float32 BGRA, colour 0..255, alpha 0..255
_SHIFT = 4


def draw_prop(rng: np.random.Generator, split: str, size: float, kind: str | None = None) -> Layer:
    """Draw one random object about size pixels big, centred on its layer's origin."""
    extent = max(int(size * 1.6), 12)
    canvas = np.zeros((extent, extent, 4), np.float32)
    names = tuple(PROPS)
    PROPS[kind or names[int(rng.integers(len(names)))]](canvas, rng, split)
    colour, alpha = canvas[..., :3], canvas[..., 3] / 255.0
    grain = rng.normal(1.0, 0.04, (max(extent // 3, 2),) * 2).astype(np.float32)
    slope = np.linspace(1.08, 0.86, extent, dtype=np.float32)[:, None]
    colour = colour * (cv2.resize(grain, (extent, extent)) * slope)[..., None]
    turn = cv2.getRotationMatrix2D((extent / 2, extent / 2), float(rng.uniform(-40, 40)), 0.76)
    premultiplied = np.dstack([colour * alpha[..., None], alpha])
    turned = cv2.warpAffine(premultiplied, turn, (extent, extent))
    cover = turned[..., 3]
    plain = turned[..., :3] / np.maximum(cover, 1e-3)[..., None]
    return Layer((-extent // 2, -extent // 2), np.clip(plain, 0, 255), cover)


def _paint(rng: np.random.Generator, split: str) -> np.ndarray:
    return colour_of(
        sample_unit(rng, split), float(rng.uniform(0.0, 0.9)), float(rng.uniform(0.15, 0.95))
    )


def _fill(canvas: Canvas, points: np.ndarray, colour: np.ndarray) -> None:
    """Fill a polygon; points (K, 2) in fractions of the canvas."""
    pixels = np.round(points * canvas.shape[0] * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [pixels], (*colour.tolist(), 255.0), cv2.LINE_AA, _SHIFT)


def _ellipse(
    canvas: Canvas,
    centre: tuple[float, float],
    axes: tuple[float, float],
    turn_deg: float,
    colour: np.ndarray,
    thickness: int = -1,
) -> None:
    scale = canvas.shape[0] * 2**_SHIFT
    middle = (round(centre[0] * scale), round(centre[1] * scale))
    half = (round(axes[0] * scale), round(axes[1] * scale))
    cv2.ellipse(
        canvas,
        middle,
        half,
        turn_deg,
        0,
        360,
        (*colour.tolist(), 255.0),
        thickness,
        cv2.LINE_AA,
        _SHIFT,
    )


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def _box(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    colour = _paint(rng, split)
    top = rng.uniform(0.3, 0.5)
    slant = rng.uniform(0.05, 0.15)
    _fill(canvas, _rectangle(0.12, top, 0.75, 0.88), colour)
    lid = np.array(
        [[0.12, top], [0.12 + slant, top - 0.15], [0.75 + slant, top - 0.15], [0.75, top]]
    )
    _fill(canvas, lid, np.minimum(colour * 1.25 + 8, 255))
    side = np.array([[0.75, top], [0.75 + slant, top - 0.15], [0.75 + slant, 0.75], [0.75, 0.88]])
    _fill(canvas, side, colour * 0.6)
    if rng.uniform() < 0.6:
        _fill(canvas, _rectangle(0.25, top + 0.1, 0.6, top + 0.22), _paint(rng, split))


def _book(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    colour = _paint(rng, split)
    height = rng.uniform(0.3, 0.7)
    _fill(canvas, _rectangle(0.1, 0.9 - height, 0.9, 0.9), np.array([225, 232, 235], np.float32))
    _fill(canvas, _rectangle(0.1, 0.9 - height, 0.87, 0.87), colour)
    _fill(canvas, _rectangle(0.1, 0.9 - height, 0.17, 0.87), colour * 0.7)
    for line in range(int(rng.integers(0, 4))):
        y = 0.97 - height + 0.09 * line
        _fill(canvas, _rectangle(0.3, y, rng.uniform(0.5, 0.8), y + 0.03), _paint(rng, split))


def _card(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    ink = (
        np.array([40, 30, 190], np.float32)
        if rng.uniform() < 0.5
        else np.array([30, 30, 30], np.float32)
    )
    for fan in range(int(rng.integers(1, 4))):
        x = 0.1 + 0.15 * fan
        _fill(
            canvas,
            _rectangle(x - 0.012, 0.13, x + 0.46, 0.87),
            np.array([120, 120, 120], np.float32),
        )
        _fill(canvas, _rectangle(x, 0.14, x + 0.45, 0.86), np.array([236, 240, 242], np.float32))
        _ellipse(canvas, (x + 0.08, 0.22), (0.035, 0.05), 0, ink)
        for spot in range(int(rng.integers(1, 5))):
            _ellipse(canvas, (x + 0.23, 0.3 + 0.13 * spot), (0.05, 0.045), 45, ink)


def _mug(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    colour = _paint(rng, split)
    _ellipse(canvas, (0.76, 0.55), (0.13, 0.16), 0, colour * 0.75, max(canvas.shape[0] // 16, 2))
    _fill(canvas, _rectangle(0.2, 0.28, 0.72, 0.84), colour)
    _ellipse(canvas, (0.46, 0.84), (0.26, 0.08), 0, colour)
    for x, gain in ((0.2, 0.75), (0.29, 0.9), (0.46, 1.1), (0.62, 0.8)):
        _fill(canvas, _rectangle(x, 0.28, x + 0.1, 0.85), np.minimum(colour * gain, 255))
    _ellipse(canvas, (0.46, 0.28), (0.26, 0.08), 0, np.minimum(colour * 1.2 + 10, 255))
    _ellipse(canvas, (0.46, 0.285), (0.22, 0.06), 0, colour * 0.35)


def _ball(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    colour = _paint(rng, split)
    for step in range(8):
        share = step / 7
        _ellipse(
            canvas,
            (0.5 - 0.12 * share, 0.5 - 0.14 * share),
            (0.38 * (1 - share * 0.85),) * 2,
            0,
            np.minimum(colour * (0.6 + 0.6 * share) + 40 * share**3, 255),
        )


def _plant(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    for _ in range(int(rng.integers(8, 20))):
        turn = rng.uniform(-180, 0)
        reach = rng.uniform(0.12, 0.36)
        centre = (
            0.5 + reach * float(np.cos(np.radians(turn))),
            0.62 + reach * float(np.sin(np.radians(turn))),
        )
        green = colour_of(
            float(rng.uniform(0.2, 0.4)), rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.7)
        )
        _ellipse(canvas, centre, (rng.uniform(0.08, 0.2), rng.uniform(0.02, 0.06)), turn, green)
    _fill(
        canvas,
        np.array([[0.33, 0.62], [0.67, 0.62], [0.6, 0.92], [0.4, 0.92]]),
        _paint(rng, split) * 0.8,
    )


def _pen(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    colour = _paint(rng, split)
    _fill(canvas, _rectangle(0.05, 0.47, 0.9, 0.53), colour)
    _fill(canvas, _rectangle(0.05, 0.47, 0.9, 0.49), np.minimum(colour * 1.3, 255))
    _fill(
        canvas,
        np.array([[0.9, 0.47], [0.98, 0.5], [0.9, 0.53]]),
        np.array([60, 60, 60], np.float32),
    )


def _paper(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    _fill(
        canvas,
        _rectangle(0.15, 0.1, 0.85, 0.9),
        np.array([228, 234, 236], np.float32) * rng.uniform(0.8, 1.0),
    )
    for line in range(int(rng.integers(4, 10))):
        y = 0.18 + 0.075 * line
        _fill(
            canvas,
            _rectangle(0.22, y, rng.uniform(0.5, 0.78), y + 0.018),
            np.array([110] * 3, np.float32),
        )
    if rng.uniform() < 0.4:
        _fill(canvas, _rectangle(0.25, 0.2, 0.6, 0.5), _paint(rng, split))


def _phone(canvas: Canvas, rng: np.random.Generator, split: str) -> None:
    _fill(canvas, _rectangle(0.3, 0.12, 0.7, 0.88), np.array([35, 33, 32], np.float32))
    _fill(canvas, _rectangle(0.325, 0.18, 0.675, 0.82), _paint(rng, split))


Prop = Callable[[Canvas, np.random.Generator, str], None]
PROPS: dict[str, Prop] = {
    "box": _box,
    "book": _book,
    "card": _card,
    "mug": _mug,
    "ball": _ball,
    "plant": _plant,
    "pen": _pen,
    "paper": _paper,
    "phone": _phone,
}
