"""Layers: small coloured patches with alpha, pasted into a frame back to front."""

from typing import NamedTuple

import cv2
import numpy as np


class Layer(NamedTuple):
    """A drawn thing: colour (h, w, 3) float32 BGR 0..255, alpha and hand mask (h, w) in [0, 1]."""

    origin: tuple[int, int]  # x, y of the patch's corner in the picture; may lie outside
    colour: np.ndarray
    alpha: np.ndarray
    mask: np.ndarray | None = None  # the labelled part; None for everything but hands


class Overlap(NamedTuple):
    """The same region seen from the frame and from the patch."""

    frame: tuple[slice, slice]
    patch: tuple[slice, slice]


def overlap(
    origin: tuple[int, int], patch_hw: tuple[int, int], frame_hw: tuple[int, int]
) -> Overlap | None:
    """Intersect a patch with the frame; None when they do not meet."""
    x, y = origin
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + patch_hw[1], frame_hw[1]), min(y + patch_hw[0], frame_hw[0])
    if right <= left or bottom <= top:
        return None
    return Overlap(
        (slice(top, bottom), slice(left, right)),
        (slice(top - y, bottom - y), slice(left - x, right - x)),
    )


def paste_inplace(frame: np.ndarray, layer: Layer) -> None:
    """Blend a layer over a (H, W, 3) uint8 frame."""
    where = overlap(layer.origin, layer.alpha.shape, frame.shape[:2])
    if where is None:
        return
    below = frame[where.frame].astype(np.float32)
    alpha = layer.alpha[where.patch][..., None]
    below += alpha * (layer.colour[where.patch] - below)
    frame[where.frame] = below.astype(np.uint8)


def shade_inplace(
    frame: np.ndarray, layer: Layer, *, shift: tuple[float, float], strength: float
) -> None:
    """Darken the frame by a blurred, displaced copy of the layer's alpha: a soft shadow."""
    small = cv2.resize(layer.alpha, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    spread = max(int(max(abs(shift[0]), abs(shift[1])) / 4) * 2 + 1, 3)
    pad = spread + 1
    soft = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    soft = cv2.blur(cv2.blur(soft, (spread, spread)), (spread, spread))
    size = (soft.shape[1] * 4, soft.shape[0] * 4)
    origin = (
        round(layer.origin[0] + shift[0]) - pad * 4,
        round(layer.origin[1] + shift[1]) - pad * 4,
    )
    where = overlap(origin, size[::-1], frame.shape[:2])
    if where is None:
        return
    gain = (255.0 * (1.0 - strength * soft)).astype(np.uint8)
    local = cv2.resize(gain, size, interpolation=cv2.INTER_LINEAR)[where.patch]
    frame[where.frame] = cv2.multiply(frame[where.frame], cv2.merge([local] * 3), scale=1 / 255)


def blur_motion(layer: Layer, velocity: tuple[float, float]) -> Layer:
    """Smear a layer along its movement in the exposure (pixels); under 1.5 nothing changes."""
    length = float(np.hypot(*velocity))
    if length < 1.5:
        return layer
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    dx, dy = velocity[0] / 2, velocity[1] / 2
    ends = [(round((half + s * dx) * 16), round((half + s * dy) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    kernel += kernel[::-1, ::-1]  # OpenCV's line is half a pixel off its centre
    kernel /= kernel.sum()
    alpha = cv2.copyMakeBorder(layer.alpha, half, half, half, half, cv2.BORDER_CONSTANT)
    colour = cv2.copyMakeBorder(layer.colour, half, half, half, half, cv2.BORDER_REPLICATE)
    soft = cv2.filter2D(alpha, -1, kernel)
    smeared = (
        cv2.filter2D(colour * alpha[..., None], -1, kernel) / np.maximum(soft, 1e-3)[..., None]
    )
    mask = None
    if layer.mask is not None:
        mask = cv2.copyMakeBorder(layer.mask, half, half, half, half, cv2.BORDER_CONSTANT)
        mask = cv2.filter2D(mask, -1, kernel)
    origin = (layer.origin[0] - half, layer.origin[1] - half)
    return Layer(origin, smeared, soft, mask)


def move_layer(layer: Layer, shift: tuple[int, int]) -> Layer:
    return layer._replace(origin=(layer.origin[0] + shift[0], layer.origin[1] + shift[1]))
