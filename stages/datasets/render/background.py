"""Rooms: a wall above, a table below, from procedural textures; one picture per video."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from stages.datasets.render.appearance import TABLES, WALLS, colour_of, sample_unit

Hw = tuple[int, int]


def noise(
    rng: np.random.Generator, hw: Hw, cells: tuple[int, ...], *, stretch: float = 1.0
) -> np.ndarray:
    """Sum smooth noise octaves of about unit amplitude, (H, W); stretch acts along x."""
    total = np.zeros(hw, np.float32)
    for octave, count in enumerate(cells):
        grid = rng.uniform(-1, 1, (count + 2, max(int(count * hw[1] / hw[0] / stretch), 1) + 2))
        layer = cv2.resize(grid.astype(np.float32), hw[::-1], interpolation=cv2.INTER_CUBIC)
        total += layer * 0.6**octave
    return total


def _tinted(rng: np.random.Generator, split: str, *, warm: bool = False) -> np.ndarray:
    hue = sample_unit(rng, split)
    if warm:
        hue = 0.02 + 0.1 * hue
    return colour_of(hue, float(rng.uniform(0.05, 0.55)), float(rng.uniform(0.3, 0.9)))


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Blend colours (3,) or pictures (H, W, 3) by share (H, W); by channel, which is faster."""
    share = share.astype(np.float32)
    planes = []
    for channel in range(3):
        low, high = np.float32(first[..., channel]), np.float32(second[..., channel])
        planes.append(low + share * (high - low))
    return cv2.merge(planes)


def _plaster(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    share = 0.5 + 0.2 * noise(rng, hw, (3, 9, 40, 160))
    base = _tinted(rng, split)
    return _mix(base * 0.8, np.minimum(base * 1.15, 255), share)


def _wallpaper(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    x = np.arange(hw[1], dtype=np.float32)[None, :]
    y = np.arange(hw[0], dtype=np.float32)[:, None]
    pitch = rng.uniform(24, 90)
    share = np.sin(x * 2 * np.pi / pitch) + rng.uniform(0, 1) * np.sin(y * 2 * np.pi / pitch)
    share = np.clip(share * rng.uniform(1, 8), 0, 1) + 0.06 * noise(rng, hw, (4, 60))
    return _mix(_tinted(rng, split), _tinted(rng, split), share)


def _panels(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    picture = _plaster(rng, hw, split)
    width = int(rng.integers(60, 200))
    for x in range(int(rng.integers(width)), hw[1], width):
        picture[:, max(x - 2, 0) : x + 2] *= 0.6
        picture[:, x + 2 : x + 4] *= 1.1
    return picture


def _gradient(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    y = np.linspace(0, 1, hw[0], dtype=np.float32)[:, None]
    x = np.linspace(0, 1, hw[1], dtype=np.float32)[None, :]
    share = y * rng.uniform(-1, 1) + x * rng.uniform(-1, 1) + 0.5 + 0.04 * noise(rng, hw, (5, 90))
    return _mix(_tinted(rng, split), _tinted(rng, split), np.clip(share, 0, 1))


def _bricks(
    rng: np.random.Generator,
    hw: Hw,
    split: str,
    *,
    size: tuple[float, float],
    shift: float,
    warm: bool,
    joint: float,
) -> np.ndarray:
    """Rectangles with their own shade each and joints between them."""
    x = np.arange(hw[1], dtype=np.float32)[None, :]
    y = np.arange(hw[0], dtype=np.float32)[:, None]
    row = np.floor(y / size[1])
    column_at = x / size[0] + row * shift
    column = np.floor(column_at)
    shade = np.mod(np.sin(row * 127.1 + column * 311.7) * 43758.5, 1.0).astype(np.float32)
    edge = np.minimum(np.mod(column_at, 1.0) * size[0], np.mod(y / size[1], 1.0) * size[1])
    base = _tinted(rng, split, warm=warm)
    share = 0.25 + 0.5 * shade + 0.12 * noise(rng, hw, (6, 30, 120))
    picture = _mix(base * 0.65, np.minimum(base * 1.2, 255), share)
    return _mix(_tinted(rng, split), picture, np.clip(edge - joint, 0, 1))


def _brick(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    width = rng.uniform(50, 110)
    return _bricks(rng, hw, split, size=(width, width * 0.36), shift=0.5, warm=True, joint=3.0)


def _tiles(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    width = rng.uniform(60, 150)
    return _bricks(rng, hw, split, size=(width, width * 0.7), shift=0.0, warm=False, joint=2.5)


def _parquet(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    width = rng.uniform(120, 260)
    return _bricks(rng, hw, split, size=(width, width * 0.2), shift=0.37, warm=True, joint=1.0)


def _planks(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    width = rng.uniform(500, 1200)
    size = (width, rng.uniform(40, 80))
    return _bricks(rng, hw, split, size=size, shift=0.5, warm=True, joint=1.5)


def _blinds(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    y = np.arange(hw[0], dtype=np.float32)[:, None]
    share = np.mod(y / rng.uniform(14, 36), 1.0) + 0.05 * noise(rng, hw, (3, 20))
    return _mix(
        _tinted(rng, split) * 0.6, np.array([235, 235, 235], np.float32), np.clip(share, 0, 1)
    )


def _curtain(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    x = np.arange(hw[1], dtype=np.float32)[None, :] / rng.uniform(12, 30)
    share = (
        0.5 + 0.4 * np.sin(x + 0.8 * np.sin(x * 0.37)) + 0.1 * noise(rng, hw, (3, 60), stretch=0.2)
    )
    base = _tinted(rng, split)
    return _mix(base * 0.5, base, np.clip(share, 0, 1))


def _shelf(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    """Rows of books and boxes."""
    picture = _plaster(rng, hw, split) * 0.5
    depth = int(rng.integers(90, 150))
    for top in range(-int(rng.integers(depth)), hw[0], depth):
        x = 0
        while x < hw[1]:
            width = int(rng.integers(10, 46))
            tall = int(depth * rng.uniform(0.5, 0.85))
            colour = _tinted(rng, split)
            low, high = max(top + depth - 12 - tall, 0), max(top + depth - 12, 0)
            picture[low:high, x : x + width] = colour
            picture[low:high, x : x + 2] = colour * 0.6
            if rng.uniform() < 0.4 and high - low > 30:
                picture[low + 10 : low + 22, x + 3 : x + width - 2] = _tinted(rng, split)
            x += width + (int(rng.integers(0, 60)) if rng.uniform() < 0.15 else 0)
        picture[max(top + depth - 12, 0) : max(top + depth, 0)] = (
            _tinted(rng, split, warm=True) * 0.8
        )
    return picture * (1.0 + 0.04 * noise(rng, hw, (60,)))[..., None]


def _wood(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    stretch = rng.uniform(6, 14)
    rings = noise(rng, hw, (5, 14), stretch=stretch) * rng.uniform(4, 9)
    share = 0.5 + 0.3 * np.sin(rings * 3.0) + 0.15 * noise(rng, hw, (90, 200), stretch=stretch)
    base = _tinted(rng, split, warm=True)
    return _mix(base * 0.6, np.minimum(base * 1.1, 255), np.clip(share, 0, 1))


def _check(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    x = np.arange(hw[1], dtype=np.float32)[None, :]
    y = np.arange(hw[0], dtype=np.float32)[:, None]
    pitch = rng.uniform(20, 60)
    share = 0.5 * (np.mod(x / pitch + 0.3 * y / pitch, 2) > 1) + 0.5 * (np.mod(y / pitch, 2) > 1)
    return _mix(_tinted(rng, split), _tinted(rng, split), share + 0.06 * noise(rng, hw, (40, 180)))


def _laminate(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    base = _tinted(rng, split)
    return _mix(
        base * 0.85, np.minimum(base * 1.1, 255), 0.5 + 0.2 * noise(rng, hw, (2, 120, 250))
    )


def _marble(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    veins = np.abs(noise(rng, hw, (4, 9, 20, 45)))
    share = np.clip(veins * 2.2, 0, 1) ** 0.5
    base = _tinted(rng, split)
    return _mix(base * 0.45, np.minimum(base * 1.2 + 20, 255), share)


def _felt(rng: np.random.Generator, hw: Hw, split: str) -> np.ndarray:
    base = _tinted(rng, split)
    return _mix(base * 0.7, base * 1.05, 0.5 + 0.25 * noise(rng, hw, (4, 130, 270)))


Texture = Callable[[np.random.Generator, Hw, str], np.ndarray]
TEXTURES: dict[str, Texture] = {
    "plaster": _plaster,
    "wallpaper": _wallpaper,
    "panels": _panels,
    "shelf": _shelf,
    "gradient": _gradient,
    "blinds": _blinds,
    "brick": _brick,
    "curtain": _curtain,
    "wood": _wood,
    "check": _check,
    "laminate": _laminate,
    "marble": _marble,
    "planks": _planks,
    "felt": _felt,
    "tiles": _tiles,
    "parquet": _parquet,
}


class Room(NamedTuple):
    picture: np.ndarray  # (H, W, 3) float32 BGR 0..255
    place: str  # names the families, e.g. SHELF-WOOD


def draw_room(rng: np.random.Generator, hw: Hw, split: str, *, horizon: float) -> Room:
    """Draw wall and table of a split's families.

    horizon: where the table's far edge lies, as a fraction of the height.
    """
    edge = int(hw[0] * horizon)
    walls, tables = WALLS[split], TABLES[split]
    wall_name = walls[int(rng.integers(len(walls)))]
    table_name = tables[int(rng.integers(len(tables)))]
    wall, table = TEXTURES[wall_name](rng, hw, split), TEXTURES[table_name](rng, hw, split)
    picture = np.clip(wall, 0, 255)
    picture[edge:] = _lay_flat(np.clip(table, 0, 255), hw[0] - edge)
    picture[max(edge - 3, 0) : edge] *= 0.55
    fall = cv2.resize(
        rng.uniform(0.72, 1.1, (3, 4)).astype(np.float32), hw[::-1], interpolation=cv2.INTER_CUBIC
    )
    lit = cv2.multiply(picture, cv2.merge([fall] * 3))
    return Room(np.minimum(lit, 255.0), f"{wall_name}-{table_name}".upper())


def _lay_flat(texture: np.ndarray, depth: int) -> np.ndarray:
    """Tip a texture backwards into a table top of depth rows: (depth, W, 3)."""
    height, width = texture.shape[:2]
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    spread = width * 0.35
    target = np.array([[0, 0], [width, 0], [width + spread, depth], [-spread, depth]], np.float32)
    view = cv2.getPerspectiveTransform(source, target)
    return cv2.warpPerspective(texture, view, (width, depth), borderMode=cv2.BORDER_REPLICATE)
