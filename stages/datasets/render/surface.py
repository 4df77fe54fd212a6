"""Height fields of round cones: the geometry under every hand and arm.

A limb is a chain of round cones (a sphere swept from one centre and radius to another) seen along
z. Each cone is evaluated only in its own window of the canvas; overlapping cones are joined by the
polynomial smooth maximum of their heights (Quilez, "smooth minimum"), which also blends their
normals, so that joints look like flesh and not like beads. Pixels: x right, y down, z towards the
viewer.
"""

from typing import NamedTuple

import cv2
import numpy as np

# Far below any surface, near enough for float32 to keep 1/4000 pixel.
FAR = np.float32(-2000.0)
_STEPS = np.arange(8192, dtype=np.float32)
BONES = 4  # parts 4 * f .. 4 * f + 3 belong to one finger (or the palm)


class Cone(NamedTuple):
    """A swept sphere; part tells which cones belong together (same part: generous smoothing)."""

    start: np.ndarray  # (3,) pixels
    end: np.ndarray  # (3,) pixels
    start_radius: float
    end_radius: float
    part: int  # in 0..127
    smoothing: float  # pixels, towards other parts
    own_smoothing: float  # pixels, towards the same part


class Window(NamedTuple):
    """Where a cone may touch the canvas, and how it looks there; (h, w) float32 arrays."""

    rows: slice
    columns: slice
    along: np.ndarray  # 0 at the start, 1 at the end
    height: np.ndarray
    normal: np.ndarray  # (2, h, w): x and y; z is the rest of a unit vector
    cover: np.ndarray  # anti-aliased coverage in [0, 1]


class Field(NamedTuple):
    """The joined surface on a canvas, written in place by add_cone."""

    origin: tuple[int, int]  # x, y of the canvas' corner in the picture
    height: np.ndarray  # (H, W)
    normal: np.ndarray  # (2, H, W)
    cover: np.ndarray  # (H, W)
    part: np.ndarray  # (H, W) int8, -1 where empty


def new_field(x_min: float, y_min: float, x_max: float, y_max: float) -> Field:
    """Make an empty canvas over the given picture region (outer pixel bounds)."""
    left, top = int(np.floor(x_min)), int(np.floor(y_min))
    shape = (max(int(np.ceil(y_max)) - top, 1), max(int(np.ceil(x_max)) - left, 1))
    return Field(
        origin=(left, top),
        height=np.full(shape, FAR, np.float32),
        normal=np.zeros((2, *shape), np.float32),
        cover=np.zeros(shape, np.float32),
        part=np.full(shape, -1, np.int8),
    )


def cone_window(field: Field, cone: Cone) -> Window | None:
    """Evaluate one cone; None when it lies outside the canvas.

    Windows are small and many, so plain floats and in-place array code save most of the time here.
    """
    height, width = field.height.shape
    ax, ay = float(cone.start[0]) - field.origin[0], float(cone.start[1]) - field.origin[1]
    bx, by = float(cone.end[0]) - field.origin[0], float(cone.end[1]) - field.origin[1]
    near, far = cone.start_radius + 1.0, cone.end_radius + 1.0
    left, top = max(int(min(ax - near, bx - far)), 0), max(int(min(ay - near, by - far)), 0)
    right = min(int(max(ax + near, bx + far)) + 1, width)
    bottom = min(int(max(ay + near, by + far)) + 1, height)
    if right <= left or bottom <= top:
        return None
    x = (_STEPS[left:right] + np.float32(0.5 - ax))[None, :]
    y = (_STEPS[top:bottom] + np.float32(0.5 - ay))[:, None]
    along, z, normal, cover = _evaluate(x, y, cone)
    return Window(slice(top, bottom), slice(left, right), along, z, normal, cover)


def _evaluate(
    x: np.ndarray, y: np.ndarray, cone: Cone
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Solve the swept sphere per pixel: position along the axis, height, normal, coverage.

    The nearest point in the picture is not the highest one when the bone points at the viewer: the
    highest slides along the axis by R * dz / (L * l), R being half the chord through the pixel.
    """
    ex, ey, ez = (float(v) for v in cone.end - cone.start)
    flat = max(ex * ex + ey * ey, 1e-2)
    length = (flat + ez * ez) ** 0.5
    free = x * np.float32(ex / flat) + y * np.float32(ey / flat)
    along = _clip_unit(free)
    offset, square, radius = _spread(x, y, along, (ex, ey), cone)
    cover = radius - np.sqrt(square)
    cover += np.float32(0.5)
    cover = _clip_unit(cover)
    if abs(ez) > 0.15 * length:
        chord = free * free
        chord *= np.float32(flat)
        chord += radius * radius
        chord -= x * x + y * y
        np.maximum(chord, 0.0, out=chord)
        np.sqrt(chord, out=chord)
        chord *= np.float32(ez / (length * flat**0.5))
        chord += free
        along = _clip_unit(chord)
        offset, square, radius = _spread(x, y, along, (ex, ey), cone)
    rise = radius * radius
    rise -= square
    np.maximum(rise, 0.0, out=rise)
    np.sqrt(rise, out=rise)
    rise += along * np.float32(ez)
    rise += np.float32(cone.start[2])
    offset /= radius
    return along, rise, offset, cover


def _clip_unit(values: np.ndarray) -> np.ndarray:
    """np.clip(values, 0, 1) without its overhead."""
    clipped = np.maximum(values, 0.0)
    return np.minimum(clipped, 1.0, out=clipped)


def _spread(
    x: np.ndarray, y: np.ndarray, along: np.ndarray, axis: tuple[float, float], cone: Cone
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset from the axis at a position along it (2, h, w), its square, and the radius there."""
    offset = np.empty((2, *along.shape), np.float32)
    np.subtract(x, along * np.float32(axis[0]), out=offset[0])
    np.subtract(y, along * np.float32(axis[1]), out=offset[1])
    square = offset[0] * offset[0]
    square += offset[1] * offset[1]
    radius = along * np.float32(cone.end_radius - cone.start_radius)
    radius += np.float32(max(cone.start_radius, 0.05))
    return offset, square, radius


def add_cone_inplace(field: Field, cone: Cone, window: Window) -> None:
    """Join a cone to the surface by the smooth maximum; its part owns the pixels that it tops."""
    at = (window.rows, window.columns)
    old = field.height[at]
    part = field.part[at]
    family = part // BONES == cone.part // BONES
    smooth = np.where(family, np.float32(cone.own_smoothing), np.float32(cone.smoothing))
    rise = window.height - old
    share = rise * (np.float32(0.5) / smooth)
    share += np.float32(0.5)
    np.maximum(share, 0.0, out=share)
    np.minimum(share, 1.0, out=share)
    share *= np.where(field.cover[at] > 0.0, window.cover, window.cover > 0.0)
    smooth *= 1.0 - share
    smooth += rise
    smooth *= share
    old += smooth
    normal = field.normal[:, window.rows, window.columns]
    normal += share * (window.normal - normal)
    np.maximum(field.cover[at], window.cover, out=field.cover[at])
    part[share > 0.5] = cone.part


def soften_inplace(field: Field, sigma: float, share: np.ndarray | None = None) -> None:
    """Blur what has been joined so far within its outline, so that cones melt into one body.

    share: (H, W) in [0, 1], how much of the blurred surface to take where; None is 1 everywhere.
    """
    size = (max(int(sigma * 3) | 1, 3),) * 2
    covered = field.part >= 0
    inside = covered.astype(np.float32)
    weight = 1.0 / np.maximum(cv2.blur(cv2.blur(inside, size), size), 1e-3)
    for plane in (field.height, *field.normal):
        soft = cv2.blur(cv2.blur(plane * inside, size), size) * weight
        if share is not None:
            soft = plane + share * (soft - plane)
        np.copyto(plane, soft, where=covered)


def spots(field: Field, points: np.ndarray, radius: float) -> np.ndarray:
    """Soft discs of about a radius around picture points (N, 2+): (H, W) in [0, 1]."""
    mask = np.zeros_like(field.height)
    for point in points:
        centre = (
            round(float(point[0]) - field.origin[0]),
            round(float(point[1]) - field.origin[1]),
        )
        cv2.circle(mask, centre, max(round(radius), 1), 1.0, -1)
    size = (max(int(radius) | 1, 3),) * 2
    return cv2.blur(mask, size)
