"""Skin: tones over the whole human range, palm lines, and the light on them.

Shading is wrapped Lambert with a wider wrap in red (light that travels through skin comes out
red), ambient occlusion from the height field, a self shadow towards the light, and a faint gloss.
"""

from typing import NamedTuple

import cv2
import numpy as np

from stages.datasets.render.surface import BONES, FAR, Field

# Albedo from the lightest to the darkest tone, sRGB; a ladder like Monk's, with the red of living
# skin.
_TONES = np.array(
    [
        [246, 214, 194],
        [238, 194, 168],
        [228, 176, 144],
        [212, 156, 120],
        [190, 132, 96],
        [164, 106, 74],
        [136, 85, 58],
        [108, 67, 47],
        [82, 51, 38],
        [60, 39, 31],
    ],
    np.float32,
)


# How far light wraps around skin, per channel BGR.
WRAPS = (0.12, 0.2, 0.42)


class Skin(NamedTuple):
    back: np.ndarray  # (3,) BGR 0..255
    palm: np.ndarray  # (3,) BGR 0..255
    nail: np.ndarray  # (3,) BGR 0..255
    lines: (
        np.ndarray
    )  # (128, 256) float32: palm line map and, right of it, that of the back; 1 = none
    mottle: np.ndarray  # (256, 256) float32 noise around 1
    hair: float  # darkness of hair on back and arm, 0..1


class Light(NamedTuple):
    direction: np.ndarray  # (3,) unit, towards the light; x right, y DOWN, z to the viewer
    colour: np.ndarray  # (3,) BGR gains
    ambient: np.ndarray  # (3,) BGR gains


class Detail(NamedTuple):
    """What lies on the surface: albedo factor and nail coverage, both (H, W)."""

    tone: np.ndarray
    nail: np.ndarray


def skin_tone(depth: float) -> np.ndarray:
    """Interpolate the tone ladder: depth 0 is the lightest, 1 the darkest; (3,) BGR 0..255."""
    position = float(np.clip(depth, 0.0, 1.0)) * (len(_TONES) - 1)
    index = min(int(position), len(_TONES) - 2)
    tone = _TONES[index] + (_TONES[index + 1] - _TONES[index]) * (position - index)
    return tone[::-1].astype(np.float32)


def random_skin(rng: np.random.Generator, depth: float) -> Skin:
    """One person's skin at a given depth of tone, with a personal hue, palm lines and mottle."""
    hue = rng.normal(0.0, 1.0, 2)
    tint = np.array([1.0 - 0.035 * hue[0], 1.0 + 0.015 * hue[1], 1.0 + 0.025 * hue[0]], np.float32)
    back = skin_tone(depth) * tint
    # Palms carry little melanin: dark skin has clearly lighter, pinker palms.
    palm = skin_tone(depth * 0.68) * tint * np.array([0.97, 0.95, 1.02], np.float32)
    nail = palm * np.array([1.06, 1.02, 1.04], np.float32) + np.array([14, 10, 12], np.float32)
    return Skin(back, palm, nail, _hand_lines(rng), _mottle(rng), float(rng.uniform(0, 1) ** 2))


def _mottle(rng: np.random.Generator) -> np.ndarray:
    total = np.zeros((256, 256), np.float32)
    for cells, weight in ((8, 0.02), (24, 0.022), (80, 0.025), (256, 0.022)):
        grid = rng.normal(0.0, weight, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (256, 256), interpolation=cv2.INTER_CUBIC)
    return 1.0 + total


def _hand_lines(rng: np.random.Generator) -> np.ndarray:
    """Lines of the palm and shades of the back, each on a map of x -0.28..0.28, y 0..0.56."""
    palm = [
        ([(-0.19, 0.37), (-0.08, 0.36), (0.02, 0.39), (0.06, 0.445)], 0.22, 2),
        ([(0.13, 0.345), (0.04, 0.33), (-0.06, 0.285), (-0.15, 0.22)], 0.20, 2),
        ([(0.14, 0.355), (0.06, 0.30), (0.025, 0.18), (0.045, 0.05)], 0.22, 2),
        ([(-0.02, 0.10), (-0.01, 0.22), (0.0, 0.34)], 0.12, 1),
        ([(-0.14, 0.012), (0.0, 0.0), (0.14, 0.012)], 0.22, 1),
        ([(-0.13, 0.035), (0.0, 0.028), (0.13, 0.035)], 0.14, 1),
    ]
    back = [
        ([(x, 0.42), (x * 0.75, 0.28), (x * 0.5, 0.14)], 0.075, 6) for x in (0.065, -0.038, -0.13)
    ]
    back += [
        ([(x, 0.40), (x * 0.6 + bend, 0.25), (x * 0.4, 0.1)], 0.10, 2)
        for x, bend in zip(rng.uniform(-0.15, 0.1, 2), rng.normal(0.0, 0.03, 2), strict=True)
    ]
    return np.hstack([_draw_lines(rng, palm, 0.8), _draw_lines(rng, back, 2.2)])


def _draw_lines(
    rng: np.random.Generator,
    curves: list[tuple[list[tuple[float, float]], float, int]],
    softness: float,
) -> np.ndarray:
    picture = np.ones((128, 128), np.float32)
    ticks = np.linspace(0, 1, 20)
    for points, depth, thickness in curves:
        bent = np.array(points) + rng.normal(0.0, 0.008, (len(points), 2))
        known = np.linspace(0, 1, len(points))
        fits = [np.polyfit(known, bent[:, axis], min(len(points) - 1, 3)) for axis in (0, 1)]
        x, y = (np.polyval(fit, ticks) for fit in fits)
        pixels = np.stack([(x + 0.28) / 0.56 * 128, y / 0.56 * 128], axis=1)
        layer = np.zeros_like(picture)
        corners = np.round(pixels * 16).astype(np.int32)
        cv2.polylines(layer, [corners], False, 1.0, thickness, cv2.LINE_AA, 4)
        picture -= depth * cv2.GaussianBlur(layer, (0, 0), softness)
    return picture


def shade_skin(
    field: Field,
    detail: Detail,
    frame: np.ndarray,
    skin: Skin,
    light: Light,
    *,
    unit: float,
    wrist: np.ndarray,
    reach: np.ndarray,
) -> np.ndarray:
    """Colour a skin surface: (H, W, 3) float32 BGR 0..255.

    frame: (3, 3), columns are the hand's axes in the picture; unit: pixels per hand length; reach:
    (H, W) how far the surface lies beyond the wrist, in pixels (palms end at the wrist).
    """
    x, y = field.normal
    z = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.0))
    palmar = _dot(frame[:, 2], x, y, z)
    inner = np.clip(palmar * 1.5 + 0.45, 0.0, 1.0)
    inner *= np.clip(reach / (0.16 * unit) - 0.1, 0.0, 1.0)
    tone = detail.tone * _mottle_at(field, skin, unit)
    tone *= _lines_at(field, frame, skin, unit, wrist, palmar)
    shadow = occlusion(field, light, unit)
    lambert = _dot(light.direction, x, y, z)
    half = light.direction + np.array([0.0, 0.0, 1.0], np.float32)
    shine = np.maximum(_dot(half / np.linalg.norm(half), x, y, z), 0.0)
    gloss = _power(shine, 5) * (8.0 + 40.0 * detail.nail) * shadow
    sky = (0.78 - 0.22 * y) * (0.35 + 0.65 * shadow)
    planes = []
    for channel, wrap in enumerate(WRAPS):
        albedo = inner * float(skin.palm[channel] - skin.back[channel]) + float(skin.back[channel])
        albedo += detail.nail * (0.75 * (float(skin.nail[channel]) - albedo))
        direct = np.maximum((lambert + wrap) * (1.0 / (1.0 + wrap)), 0.0) * shadow
        gain = direct * float(light.colour[channel]) + sky * float(light.ambient[channel])
        planes.append(albedo * tone * gain + gloss * float(light.colour[channel]))
    return np.clip(cv2.merge(planes), 0.0, 255.0)


def _dot(vector: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return float(vector[0]) * x + float(vector[1]) * y + float(vector[2]) * z


def _power(values: np.ndarray, doublings: int) -> np.ndarray:
    """values ** (2 ** doublings), faster than pow."""
    for _ in range(doublings):
        values = values * values
    return values


def occlusion(field: Field, light: Light, unit: float) -> np.ndarray:
    """Darkness from neighbouring surface: (H, W), 1 = open, about 0.3 = deep crease."""
    inside = (field.height > FAR / 2).astype(np.float32)
    height = np.where(inside > 0, field.height, 0.0).astype(np.float32)
    result = np.ones_like(height)
    for size, gain in ((0.05, 5.0), (0.16, 2.2)):
        kernel = max(int(size * unit) | 1, 3)
        weight = cv2.blur(inside, (kernel, kernel))
        around = cv2.blur(height, (kernel, kernel)) / np.maximum(weight, 1e-3)
        depth = np.maximum(around - height, 0.0) / unit
        result -= np.minimum(depth * gain, 0.45)
    step = light.direction[:2] * (0.07 * unit)
    move = np.array([[1, 0, -step[0]], [0, 1, -step[1]]], np.float32)
    toward = cv2.warpAffine(height, move, height.shape[::-1], flags=cv2.INTER_LINEAR)
    cast = np.clip((toward - height) / unit - 0.05, 0.0, 0.06) * 5.0
    return np.clip(result - cv2.blur(cast, (3, 3)), 0.25, 1.0)


def _mottle_at(field: Field, skin: Skin, unit: float) -> np.ndarray:
    height, width = field.height.shape
    zoom = max(unit / 150.0, 0.5)
    need = (int(height / zoom) + 1, int(width / zoom) + 1)
    tile = skin.mottle[: min(need[0], 256), : min(need[1], 256)]
    return cv2.resize(tile, (width, height), interpolation=cv2.INTER_LINEAR)


def _lines_at(
    field: Field,
    frame: np.ndarray,
    skin: Skin,
    unit: float,
    wrist: np.ndarray,
    palmar: np.ndarray,
) -> np.ndarray:
    """Sample the line map of the side that faces the viewer: (H, W), 1 beside the palm."""
    if unit < 50 or abs(frame[2, 2]) < 0.2:
        return np.ones_like(field.height)
    height, width = field.height.shape
    x = (np.arange(width, dtype=np.float32) + field.origin[0] + 0.5 - wrist[0])[None, :]
    y = (np.arange(height, dtype=np.float32) + field.origin[1] + 0.5 - wrist[1])[:, None]
    body = field.part < BONES
    z = np.where(body, field.height - wrist[2], np.float32(0.0))
    scale = np.float32(128 / 0.56 / unit)
    side = 1.0 if frame[2, 2] > 0 else -1.0
    u = (x * frame[0, 0] + y * frame[1, 0] + z * frame[2, 0]) * scale + (64 if side > 0 else 192)
    v = (x * frame[0, 1] + y * frame[1, 1] + z * frame[2, 1]) * scale
    lines = cv2.remap(skin.lines, u, v, cv2.INTER_LINEAR, borderValue=1.0)
    use = body * np.clip(palmar * (2.0 * side), 0.0, 1.0)
    return 1.0 + use * (lines - 1.0)
