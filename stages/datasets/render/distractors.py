"""Unlabelled things in the colour of skin: faces, elbows, wooden blobs of finger-like shape."""

import cv2
import numpy as np

from stages.datasets.render.appearance import Cloth, sample_unit
from stages.datasets.render.arm import draw_limb
from stages.datasets.render.layer import Layer, move_layer, paste_inplace
from stages.datasets.render.skin import Light, Skin, random_skin, skin_tone

Point = tuple[float, float]


def draw_head(rng: np.random.Generator, skin: Skin, light: Light, face_height: float) -> Layer:
    """Draw a head from the front, face_height pixels from chin to crown, centred on (0, 0)."""
    size = int(face_height * 1.5)
    scale = face_height / 2
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = (x + 0.5 - size / 2) / scale, (y + 0.5 - size / 2) / scale
    turn = float(rng.uniform(-0.25, 0.25))
    nx, ny = x / 0.74, y / np.where(y > 0, 1.0, 0.96)
    jaw = 1.0 - 0.16 * np.clip(y - 0.2, 0, 1)
    inside = 1.0 - np.sqrt((nx / jaw) ** 2 + ny**2)
    alpha = np.clip(inside * scale * 0.8, 0, 1)
    ears = 1.0 - np.sqrt(((np.abs(x) - 0.74) / 0.12) ** 2 + ((y - 0.06) / 0.22) ** 2)
    alpha = np.maximum(alpha, np.clip(ears * scale * 0.1, 0, 1))
    nz = np.sqrt(np.clip(1.0 - nx**2 - ny**2, 0.02, 1))
    tone = _face_tone(x - turn * 0.5, y)
    colour = _lit(skin.back, nx * 0.8, ny * 0.7, nz, light) * tone[..., None]
    _draw_features_inplace(colour, x - turn * 0.5, y, skin, rng, scale)
    _draw_hair_inplace(colour, alpha, x, y, _hair_colour(rng), rng, scale)
    return Layer((-size // 2, -size // 2), np.clip(colour, 0, 255).astype(np.float32), alpha)


def _hair_colour(rng: np.random.Generator) -> np.ndarray:
    """Black to brown and fair, now and then grey: (3,) BGR."""
    hair = skin_tone(float(rng.uniform(0.6, 1.0))) * rng.uniform(0.25, 0.9)
    if rng.uniform() < 0.15:
        hair = np.array([150, 150, 155]) * rng.uniform(0.7, 1.2)
    return hair.astype(np.float32)


def _lit(
    albedo: np.ndarray, nx: np.ndarray, ny: np.ndarray, nz: np.ndarray, light: Light
) -> np.ndarray:
    lambert = nx * light.direction[0] + ny * light.direction[1] + nz * light.direction[2]
    direct = np.clip((lambert + 0.25) / 1.25, 0, 1)[..., None]
    sky = (0.8 - 0.2 * ny)[..., None]
    return (albedo * (direct * light.colour + sky * light.ambient)).astype(np.float32)


def _blob(x: np.ndarray, y: np.ndarray, at: Point, half: Point) -> np.ndarray:
    return np.exp(-(((x - at[0]) / half[0]) ** 2) - ((y - at[1]) / half[1]) ** 2)


def _face_tone(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Eye sockets, sides and base of the nose, and the fold under the lip, as darkening."""
    tone = np.ones_like(x)
    for side in (-1, 1):
        tone -= 0.22 * _blob(x, y, (0.3 * side, -0.1), (0.18, 0.12))
        tone -= 0.14 * _blob(x, y, (0.13 * side, 0.12), (0.05, 0.2))
        tone -= 0.25 * _blob(x, y, (0.07 * side, 0.27), (0.05, 0.03))
    tone += 0.10 * _blob(x, y, (0.0, 0.15), (0.07, 0.2))
    tone -= 0.16 * _blob(x, y, (0.0, 0.66), (0.2, 0.05))
    return tone.astype(np.float32)


def _draw_features_inplace(
    colour: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    skin: Skin,
    rng: np.random.Generator,
    scale: float,
) -> None:
    def blend(share: np.ndarray, value: np.ndarray) -> None:
        colour[...] += np.clip(share, 0, 1)[..., None] * (value - colour)

    dark = np.array([20, 22, 28], np.float32)
    for side in (-1, 1):
        white = 1.0 - np.sqrt(((x - 0.3 * side) / 0.13) ** 2 + ((y + 0.1) / 0.055) ** 2)
        blend(white * scale * 0.1, np.array([205, 210, 212], np.float32) * 0.9)
        iris = 1.0 - np.hypot(x - 0.3 * side, y + 0.1) / 0.055
        blend(iris * scale * 0.1, dark)
        brow = _blob(x, y, (0.3 * side, -0.27 + 0.25 * 0.0), (0.17, 0.035)) * 1.4
        blend(brow * 0.8, skin.back * 0.22)
    lips = _blob(x, y, (0.0, 0.5), (0.2, 0.05)) * 1.3
    blend(lips, skin.palm * np.array([0.55, 0.5, 0.72], np.float32))
    blend(_blob(x, y, (0.0, 0.5), (0.2, 0.012)), skin.back * 0.3)
    if rng.uniform() < 0.3:
        for side in (-1, 1):
            ring = 1.0 - np.abs(np.hypot((x - 0.3 * side) / 1.1, y + 0.08) - 0.19) / 0.022
            blend(ring * 2, dark)


def _draw_hair_inplace(
    colour: np.ndarray,
    alpha: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    hair: np.ndarray,
    rng: np.random.Generator,
    scale: float,
) -> None:
    crown = 1.0 - np.sqrt((x / 0.84) ** 2 + ((y + 0.12) / 1.0) ** 2)
    line = -0.52 + 0.25 * x * float(rng.uniform(-1, 1)) + float(rng.uniform(0.3, 0.9)) * x * x
    cover = np.clip(crown * scale * 0.8, 0, 1) * np.clip((line - y) * scale * 0.4, 0, 1)
    if rng.uniform() < 0.4:
        sides = np.clip((np.abs(x) - 0.66) * scale * 0.3, 0, 1) * (y < rng.uniform(0.3, 1.2))
        wide = 1.0 - np.sqrt((x / 0.95) ** 2 + (y / 1.35) ** 2)
        cover = np.maximum(cover, sides * np.clip(wide * scale * 0.5, 0, 1))
    strands = rng.normal(1.0, 0.16, (8, x.shape[1])).astype(np.float32)
    shade = cv2.resize(strands, x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    shade = shade * (1.0 - 0.25 * y)
    colour += cover[..., None] * (hair * shade[..., None] - colour)
    np.maximum(alpha, cover, out=alpha)


def draw_torso(
    centre: Point,
    face_height: float,
    skin: Skin,
    cloth: Cloth,
    light: Light,
    frame_wh: tuple[int, int],
) -> list[Layer]:
    """Neck and trunk below a head at centre, down to the bottom of the frame."""
    x, y = centre
    neck = draw_limb(
        np.array([x, y + 0.3 * face_height], np.float32),
        np.array([x, y + 0.75 * face_height], np.float32),
        (0.2 * face_height, 0.24 * face_height),
        skin,
        light,
        frame_wh=frame_wh,
    )
    trunk = draw_limb(
        np.array([x, y + 1.32 * face_height], np.float32),
        np.array([x, y + 4.0 * face_height], np.float32),
        (0.72 * face_height, 0.8 * face_height),
        cloth,
        light,
        frame_wh=frame_wh,
    )
    shoulders = [
        draw_limb(
            np.array([x, y + 0.9 * face_height], np.float32),
            np.array([x + side * 0.72 * face_height, y + 1.05 * face_height], np.float32),
            (0.28 * face_height, 0.27 * face_height),
            cloth,
            light,
            frame_wh=frame_wh,
        )
        for side in (-1, 1)
    ]
    return [layer for layer in (trunk, *shoulders, neck) if layer is not None]


def draw_portrait(
    rng: np.random.Generator, skin: Skin, cloth: Cloth, light: Light, size: float
) -> Layer:
    """Draw a framed picture of a face, about size pixels high, centred on (0, 0)."""
    height, width = int(size), int(size * rng.uniform(0.75, 1.1))
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = rng.uniform(40, 230, 3)
    face = size * float(rng.uniform(0.5, 0.85))
    centre = (width / 2, height * float(rng.uniform(0.38, 0.5)))
    torso = draw_torso(centre, face, skin, cloth, light, (width, height))
    head = draw_head(rng, skin, light, face)
    for layer in (*torso, move_layer(head, (round(centre[0]), round(centre[1])))):
        paste_inplace(canvas, layer)
    if rng.uniform() < 0.7:
        border = tuple(float(v) for v in rng.uniform(10, 220, 3))
        cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), border, max(height // 18, 1))
    alpha = np.ones((height, width), np.float32)
    return Layer((-width // 2, -height // 2), canvas.astype(np.float32), alpha)


def draw_elbow(
    rng: np.random.Generator, skin: Skin, light: Light, frame_wh: tuple[int, int], size: float
) -> list[Layer]:
    """An arm bent in the picture whose hand and shoulder both lie outside it."""
    width, height = frame_wh
    left = rng.uniform() < 0.5
    edge = -0.5 * size if left else width + 0.5 * size
    inwards = 1.0 if left else -1.0
    y = rng.uniform(0.35, 0.85) * height
    tip = np.array([edge + inwards * size * rng.uniform(1.0, 2.0), y], np.float32)
    ends = [
        np.array([edge, y - size * rng.uniform(0.8, 2.0)], np.float32),
        np.array([edge, y + size * rng.uniform(0.5, 1.6)], np.float32),
    ]
    layers = [
        draw_limb(tip, end, (0.2 * size, 0.24 * size), skin, light, frame_wh=frame_wh)
        for end in ends
    ]
    return [layer for layer in layers if layer is not None]


def draw_blob(
    rng: np.random.Generator,
    split: str,
    at: Point,
    light: Light,
    frame_wh: tuple[int, int],
    size: float,
) -> list[Layer]:
    """A bundle of wooden or cardboard sticks and lumps in a colour like skin."""
    skin = random_skin(rng, sample_unit(rng, split))
    tint = rng.uniform(0.85, 1.1, 3).astype(np.float32) * np.array([0.88, 1.0, 1.0], np.float32)
    wood = skin._replace(back=skin.back * tint)
    layers = []
    heading = rng.uniform(0, 2 * np.pi)
    for index in range(int(rng.integers(1, 5))):
        start = np.array(at, np.float32) + rng.normal(0, 0.12 * size, 2).astype(np.float32)
        turn = heading + rng.normal(0, 0.35)
        reach = size * rng.uniform(0.3, 0.9)
        end = start + np.array([np.cos(turn), np.sin(turn)], np.float32) * reach
        radius = size * (rng.uniform(0.16, 0.26) if index == 0 else rng.uniform(0.05, 0.12))
        layers.append(
            draw_limb(
                start,
                end,
                (radius, radius * rng.uniform(0.7, 1.1)),
                wood,
                light,
                frame_wh=frame_wh,
            )
        )
    return [layer for layer in layers if layer is not None]
