"""Arms: forearms, upper arms and sleeves as shaded round cones, at half size when big."""

from typing import NamedTuple, Protocol

import cv2
import numpy as np

from stages.datasets.render.appearance import Cloth
from stages.datasets.render.layer import Layer
from stages.datasets.render.skin import WRAPS, Light, Skin


class Wearer(Protocol):
    """Whose arm it is."""

    @property
    def skin(self) -> Skin: ...
    @property
    def sleeve(self) -> Cloth: ...
    @property
    def cuff(self) -> float: ...
    @property
    def short_sleeve(self) -> float: ...


class Shoulder(NamedTuple):
    x: float
    y: float
    radius: float


class ArmPlan(NamedTuple):
    """Where an arm goes: its elbow lies towards target; without a shoulder it leaves the frame."""

    target: tuple[float, float]
    shoulder: Shoulder | None
    unit: float  # pixels per hand length
    roll_deg: float  # of the hand in the picture
    wrist_radius: float
    max_bend_deg: float = 48.0  # of the wrist, as it is seen


_FOREARM = 1.15  # hand lengths, foreshortened


def draw_arm(
    wrist: np.ndarray, plan: ArmPlan, wearer: Wearer, light: Light, *, frame_wh: tuple[int, int]
) -> list[Layer]:
    """Draw upper arm, forearm and sleeve, back to front; wrist is in picture pixels (2+,)."""
    unit, thin = plan.unit, plan.wrist_radius
    hand = wrist[:2].astype(np.float32)
    direction = _elbow_direction(plan, np.array(plan.target, np.float32) - hand)
    reach = _FOREARM * unit if plan.shoulder else float(max(frame_wh))
    elbow = hand + direction * reach
    thick = min(thin + (0.20 * unit - thin) * reach / (1.2 * unit), 0.27 * unit)
    layers = []
    if plan.shoulder:
        layers += _draw_upper_arm(
            elbow, plan.shoulder, wearer, light, radii=(thick, 0.23 * unit), frame_wh=frame_wh
        )
    start = hand - direction * (0.05 * unit)
    layers.append(draw_limb(start, elbow, (thin, thick), wearer.skin, light, frame_wh=frame_wh))
    if wearer.cuff <= 1.0:
        cuff = hand + direction * (wearer.cuff * _FOREARM * unit)
        radius = thin + (0.20 * unit - thin) * wearer.cuff
        radii = (radius * 1.18, max(thick, radius) * 1.15)
        layers.append(
            draw_limb(cuff, elbow, radii, wearer.sleeve, light, frame_wh=frame_wh, flat_start=True)
        )
    return [layer for layer in layers if layer is not None]


def _draw_upper_arm(
    elbow: np.ndarray,
    end: Shoulder,
    wearer: Wearer,
    light: Light,
    *,
    radii: tuple[float, float],
    frame_wh: tuple[int, int],
) -> list[Layer | None]:
    """Draw the arm from elbow to shoulder: a sleeve, or bare up to the hem of a short one.

    radii: at the elbow, bare and in a sleeve.
    """
    shoulder = np.array([end.x, end.y], np.float32)
    bare, sleeve = (radii[0], 0.8 * end.radius), (radii[1], end.radius)
    if wearer.short_sleeve <= 0.0:
        return [draw_limb(elbow, shoulder, sleeve, wearer.sleeve, light, frame_wh=frame_wh)]
    hem = elbow + (shoulder - elbow) * wearer.short_sleeve
    hem_radius = sleeve[0] + (sleeve[1] - sleeve[0]) * wearer.short_sleeve
    wide = (max(hem_radius, 0.9 * end.radius), end.radius)
    return [
        draw_limb(elbow, shoulder, bare, wearer.skin, light, frame_wh=frame_wh),
        draw_limb(hem, shoulder, wide, wearer.sleeve, light, frame_wh=frame_wh, flat_start=True),
    ]


def _elbow_direction(plan: ArmPlan, wish: np.ndarray) -> np.ndarray:
    """Unit direction from wrist to elbow: as wished, within the wrist's range of bending."""
    roll, limit = np.radians(plan.roll_deg), np.radians(plan.max_bend_deg)
    straight = np.arctan2(np.cos(roll), np.sin(roll))
    wished = np.arctan2(float(wish[1]), float(wish[0]))
    bend = np.mod(wished - straight + np.pi, 2 * np.pi) - np.pi
    angle = straight + np.clip(bend, -limit, limit)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def draw_limb(
    start: np.ndarray,
    end: np.ndarray,
    radii: tuple[float, float],
    material: Skin | Cloth,
    light: Light,
    *,
    frame_wh: tuple[int, int],
    flat_start: bool = False,
) -> Layer | None:
    """Draw one limb from start to end (picture pixels), radii at both; None when out of the frame.

    flat_start cuts the limb straight at its start (a cuff) in place of rounding it.
    """
    ends = np.stack([start[:2], end[:2]]).astype(np.float32)
    reach = max(radii) + 2.0
    low = np.maximum(ends.min(axis=0) - reach, -4.0)
    high = np.minimum(ends.max(axis=0) + reach, np.array(frame_wh) + 4.0)
    if (high - low < 2).any():
        return None
    step = 2 if max(radii) > 14 else 1
    left, top = (int(v) for v in np.floor(low))
    width, height = (-(-int(v) // step) for v in np.ceil(high) - np.floor(low))
    x = (np.arange(width, dtype=np.float32) * step + (left + step / 2 - ends[0, 0]))[None, :]
    y = (np.arange(height, dtype=np.float32) * step + (top + step / 2 - ends[0, 1]))[:, None]
    colour, alpha = _limb_pixels(
        x, y, ends[1] - ends[0], radii, material, light, step=step, flat_start=flat_start
    )
    if step > 1:
        size = (width * step, height * step)
        colour = cv2.resize(colour, size, interpolation=cv2.INTER_LINEAR)
        alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
    return Layer((left, top), colour, alpha)


def _limb_pixels(
    x: np.ndarray,
    y: np.ndarray,
    axis: np.ndarray,
    radii: tuple[float, float],
    material: Skin | Cloth,
    light: Light,
    *,
    step: int,
    flat_start: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha at offsets x (1, w) and y (h, 1) from the start, step pixels apart."""
    length = max(float(np.hypot(*axis)), 1.0)
    free = x * (axis[0] / length**2) + y * (axis[1] / length**2)
    along = np.clip(free, 0.0, 1.0)
    dx, dy = x - along * axis[0], y - along * axis[1]
    radius = radii[0] + (radii[1] - radii[0]) * along
    across = (x * axis[1] - y * axis[0]) / (length * radius)
    distance = np.sqrt(dx * dx + dy * dy)
    alpha = np.clip((radius - distance) / step + 0.5, 0.0, 1.0)
    if flat_start:
        alpha *= np.clip(
            (free * length + 0.12 * radius * (1 - across * across)) / step + 0.5, 0.0, 1.0
        )
    nx, ny = dx / radius, dy / radius
    nz = np.sqrt(np.clip(1.0 - nx * nx - ny * ny, 0.0, 1.0))
    travel = free * (length / max(radii))
    if isinstance(material, Cloth):
        albedo, fold = _cloth(material, travel, across)
        rim = np.clip(1.15 - 0.25 * np.exp(-travel * 3.0), 0.6, 1.0) if flat_start else 1.0
        albedo = albedo * (fold * rim)[..., None]
        wraps = (0.15, 0.15, 0.15)
    else:
        mottle = cv2.resize(material.mottle[:64, :64], alpha.shape[::-1])
        albedo = material.back * mottle[..., None]
        wraps = WRAPS
    lambert = nx * light.direction[0] + ny * light.direction[1] + nz * light.direction[2]
    sky = (0.78 - 0.22 * ny) * (0.55 + 0.45 * nz)
    colour = np.empty_like(albedo)
    for channel, wrap in enumerate(wraps):
        direct = np.clip((lambert + wrap) / (1.0 + wrap), 0.0, 1.0)
        gain = direct * light.colour[channel] + sky * light.ambient[channel]
        colour[..., channel] = albedo[..., channel] * gain
    return np.clip(colour, 0, 255).astype(np.float32), alpha.astype(np.float32)


def _cloth(cloth: Cloth, travel: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pattern colour (h, w, 3) and fold shading (h, w) over limb coordinates in radii."""
    around = np.arcsin(np.clip(across, -1, 1))
    turn = 2 * np.pi / cloth.pitch
    if cloth.pattern in ("stripes", "rings"):
        share = np.sin((around if cloth.pattern == "stripes" else travel) * turn) > 0.3
    elif cloth.pattern == "check":
        share = 0.5 * (np.sin(around * turn) > 0.2) + 0.5 * (np.sin(travel * turn) > 0.2)
    elif cloth.pattern == "zigzag":
        share = np.sin((travel + 0.3 * np.abs(np.mod(around * 3, 2.0) - 1.0)) * turn) > 0.2
    elif cloth.pattern == "melange":
        share = 0.3 + 0.2 * np.sin(travel * 23.0) * np.sin(around * 31.0 + travel * 5.0)
    else:
        share = np.zeros_like(around)
    colour = cloth.colour + np.asarray(share, np.float32)[..., None] * (
        cloth.second - cloth.colour
    )
    fold = 0.9 + 0.08 * np.sin(travel * 4.1 + around * 2.2 + 1.5 * np.sin(travel * 1.3))
    fold = fold + 0.05 * np.sin(travel * 9.7 - around * 3.1)
    return colour.astype(np.float32), fold.astype(np.float32)
