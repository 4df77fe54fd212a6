"""Draw one articulated hand: cones, skin detail, light, and a mask up to the wrist."""

from typing import NamedTuple

import numpy as np

from stages.datasets.render.layer import Layer
from stages.datasets.render.skeleton import HandShape, Skeleton
from stages.datasets.render.skin import Detail, Light, Skin, shade_skin
from stages.datasets.render.surface import (
    BONES,
    Cone,
    Field,
    Window,
    add_cone_inplace,
    cone_window,
    new_field,
    soften_inplace,
    spots,
)

_PALM = 0
_DISTANCE = 5.0  # of the viewer, in hand lengths: mild perspective


class Placement(NamedTuple):
    """Where a hand is: wrist in picture pixels, pixels per hand length, camera rotation, side."""

    wrist: tuple[float, float]
    scale: float
    rotation: np.ndarray  # (3, 3) hand to camera coordinates
    is_left: bool


class PosedHand(NamedTuple):
    """A hand in the picture: joints in pixels (x right, y down, z to the viewer) and its frame."""

    joints: np.ndarray  # (21, 3)
    radii: np.ndarray  # (5, 4) pixels
    axes: np.ndarray  # (5, 3, 3) unit bone axes in picture coordinates
    dorsal: np.ndarray  # (5, 3, 3)
    frame: (
        np.ndarray
    )  # (3, 3) columns: the hand's x (thumb side), y, z (palm) in picture coordinates
    scale: float


def place_hand(shape: HandShape, skeleton: Skeleton, placement: Placement) -> PosedHand:
    """Turn a skeleton into picture coordinates with a mild perspective about the wrist."""
    mirror = np.array([-1.0 if placement.is_left else 1.0, 1.0, 1.0], np.float32)
    to_picture = np.diag([1.0, -1.0, 1.0]).astype(np.float32) @ placement.rotation * mirror
    camera = skeleton.joints @ to_picture.T
    nearer = _DISTANCE / (_DISTANCE - camera[:, 2:])
    joints = camera * nearer * placement.scale
    joints[:, :2] += np.array(placement.wrist, np.float32)
    radii = shape.radii * nearer[1:, 0].reshape(5, 4) * placement.scale
    turn = to_picture.T
    return PosedHand(
        joints.astype(np.float32),
        radii.astype(np.float32),
        skeleton.axes @ turn,
        skeleton.dorsal @ turn,
        to_picture,
        placement.scale,
    )


def draw_hand(hand: PosedHand, skin: Skin, light: Light, *, wrist_radius: float) -> Layer:
    """Draw a hand and a stub of its wrist.

    wrist_radius: half the wrist's breadth in pixels (the forearm starts with it). The mask covers
    the hand up to the wrist; alpha also the stub, which fades out so that a forearm drawn before
    shows.
    """
    field = _canvas(hand)
    for cone in _palm_cones(hand, wrist_radius):
        window = cone_window(field, cone)
        if window is not None:
            add_cone_inplace(field, cone, window)
    soften_inplace(field, 0.022 * hand.scale)
    bones = [bone for finger in (4, 3, 2, 1, 0) for bone in _finger_bones(field, hand, finger)]
    roots = [bone for bone in bones if bone.segment == (1 if bone.finger == 0 else 0)]
    for bone in roots:
        add_cone_inplace(field, bone.cone, bone.window)
    knuckles = spots(field, hand.joints[[2, 5, 9, 13, 17]], 0.085 * hand.scale)
    soften_inplace(field, 0.019 * hand.scale, knuckles)
    for bone in bones:
        if bone.segment != (1 if bone.finger == 0 else 0):
            add_cone_inplace(field, bone.cone, bone.window)
    detail = _skin_detail(field, hand, bones)
    reach = _reach(field, hand)
    fade = np.clip(reach / (0.16 * hand.scale) + 1.5, 0.0, 1.0)
    mask = field.cover * np.clip(reach + 0.5 + 0.02 * hand.scale, 0.0, 1.0)
    colour = shade_skin(
        field,
        detail,
        hand.frame,
        skin,
        light,
        unit=hand.scale,
        wrist=hand.joints[0],
        reach=reach,
    )
    return Layer(field.origin, colour, field.cover * fade, mask)


def _canvas(hand: PosedHand) -> Field:
    margin = float(hand.radii.max()) * 1.15 + 2.0
    low = hand.joints[:, :2].min(axis=0) - margin
    high = hand.joints[:, :2].max(axis=0) + margin
    return new_field(low[0], low[1], high[0], high[1])


def _reach(field: Field, hand: PosedHand) -> np.ndarray:
    """How far the surface lies beyond the wrist along the hand, in pixels: (H, W)."""
    up = hand.frame[:, 1]
    x = np.arange(field.height.shape[1], dtype=np.float32) + field.origin[0] + 0.5
    y = np.arange(field.height.shape[0], dtype=np.float32) + field.origin[1] + 0.5
    wrist = hand.joints[0]
    flat = (x - wrist[0])[None, :] * up[0] + (y - wrist[1])[:, None] * up[1]
    return (flat + (field.height - wrist[2]) * up[2]).astype(np.float32)


def _palm_cones(hand: PosedHand, wrist_radius: float) -> list[Cone]:
    """Metacarpals, webs, the balls of thumb and little finger, wrist: all joined softly."""
    unit, frame, joints = hand.scale, hand.frame, hand.joints

    def at(x: float, y: float, z: float) -> np.ndarray:
        return joints[0] + frame @ np.array([x, y, z], np.float32) * unit

    def cone(
        a: np.ndarray, b: np.ndarray, ra: float, rb: float, part: int = _PALM, k: float = 0.1
    ) -> Cone:
        return Cone(a, b, ra, rb, part, k * unit, 0.09 * unit)

    knuckles = joints[[5, 9, 13, 17]]
    cones = [
        cone(at(x, -0.16, 0.0), at(x * 1.1, 0.06, 0.0), wrist_radius * 0.62, wrist_radius * 0.66)
        for x in (-0.055, 0.055)
    ]
    for index, x in enumerate((0.075, 0.025, -0.03, -0.08)):
        radius = float(hand.radii[index + 1, 0])
        cones.append(cone(at(x, 0.06, 0.0), knuckles[index], 0.072 * unit, radius * 0.98))
    for index in range(3):
        radius = float(hand.radii[index + 1, 0]) * 0.78
        web = frame[:, 1] * 0.045 * unit + frame[:, 2] * 0.012 * unit
        a, b = knuckles[index], knuckles[index + 1]
        cones.append(cone(a * 0.7 + b * 0.3 + web, a * 0.3 + b * 0.7 + web, radius, radius))
    thumb, ball = joints[1], joints[2]
    cones.append(cone(at(0.06, 0.10, 0.015), thumb, 0.072 * unit, 0.076 * unit))
    cones.append(cone(thumb, ball, 0.078 * unit, float(hand.radii[0, 1])))
    middle = thumb * 0.45 + ball * 0.55
    cones.append(cone(middle, at(0.075, 0.30, 0.012), 0.05 * unit, 0.055 * unit))
    cones.append(
        cone(at(-0.085, 0.10, 0.022), at(-0.135, 0.30, 0.018), 0.066 * unit, 0.062 * unit)
    )
    return cones


class _Bone(NamedTuple):
    cone: Cone
    window: Window
    finger: int
    segment: int  # 0 next to the palm, 2 the fingertip


def _finger_bones(field: Field, hand: PosedHand, finger: int) -> list[_Bone]:
    """Evaluate a finger's bones; the thumb's first one is part of the palm."""
    first, unit, root = 1 + 4 * finger, hand.scale, 1 if finger == 0 else 0
    bones = []
    for index in range(root, 3):
        cone = Cone(
            hand.joints[first + index],
            hand.joints[first + index + 1],
            float(hand.radii[finger, index]),
            float(hand.radii[finger, index + 1]),
            BONES * (finger + 1) + index,
            (0.07 if index == root else 0.012) * unit,
            0.03 * unit,
        )
        window = cone_window(field, cone)
        if window is not None:
            bones.append(_Bone(cone, window, finger, index))
    return bones


def _skin_detail(field: Field, hand: PosedHand, bones: list[_Bone]) -> Detail:
    """Creases and nails of every bone, on the pixels that the bone owns."""
    tone = np.ones_like(field.height)
    nail = np.zeros_like(field.height)
    for bone in bones:
        at = (bone.window.rows, bone.window.columns)
        dorsal = hand.dorsal[bone.finger, bone.segment]
        has_nail = bone.segment == 2 and dorsal[2] > -0.7 and bone.cone.end_radius > 3.0
        if bone.cone.start_radius < 4.5 and not has_nail:
            continue
        owned = field.part[at] == bone.cone.part
        back = _dot(dorsal, bone.window)
        if bone.cone.start_radius >= 4.5:
            np.copyto(tone[at], _crease_tone(bone, hand, back), where=owned)
        if has_nail:
            np.copyto(nail[at], _nail(bone, hand, back), where=owned)
    return Detail(tone, nail)


def _dot(vector: np.ndarray, window: Window) -> np.ndarray:
    """Product of a picture direction and the window's normals: (h, w)."""
    x, y = window.normal
    z = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.0))
    return float(vector[0]) * x + float(vector[1]) * y + float(vector[2]) * z


def _crease_tone(bone: _Bone, hand: PosedHand, back: np.ndarray) -> np.ndarray:
    """Crisp lines inside the joints, soft wrinkles over the knuckles of straight fingers."""
    cone, along = bone.cone, bone.window.along
    length = float(np.linalg.norm(cone.end - cone.start))
    straight = 1.0
    if bone.segment > 0:
        axes = hand.axes[bone.finger]
        straight = float(axes[bone.segment] @ axes[bone.segment - 1]) ** 2
    facing = float(hand.dorsal[bone.finger, bone.segment, 2])
    tone = np.ones_like(along)
    for joint, is_end in ((bone.segment, False), (bone.segment + 1, True)):
        if joint in (0, 3):
            continue
        away = (1.0 - along if is_end else along) * np.float32(length / cone.start_radius)
        square = away * away
        if facing < 0.4:
            tone -= np.exp(square * -20.0) * np.minimum(np.maximum(back * -0.40, 0.0), 0.20)
        if facing > -0.4:
            ripple = np.exp(square * -2.2) * (np.cos(away * 13.0) * 0.45 + 0.55)
            depth = np.float32(0.15 * straight)
            tone -= ripple * np.minimum(np.maximum(back * (1.6 * depth) - 0.3 * depth, 0.0), depth)
    return tone


def _nail(bone: _Bone, hand: PosedHand, back: np.ndarray) -> np.ndarray:
    """Nail coverage in the bone's window: an ellipse on the back of the last bone, in [0, 1]."""
    axis = hand.axes[bone.finger, 2]
    side = np.cross(axis, hand.dorsal[bone.finger, 2])
    radius = bone.cone.end_radius
    length = float(np.linalg.norm(bone.cone.end - bone.cone.start)) / radius
    along = bone.window.along * length + _dot(axis, bone.window) - (length + 0.12)
    across = _dot(side, bone.window) * (0.98 / 0.74)
    along *= along
    across *= across
    inside = 1.0 - np.sqrt(along * along + across * across) * np.float32(1.0 / 0.98**2)
    shown = np.minimum(np.maximum(back * 6.0 - 0.9, 0.0), 1.0)
    return np.minimum(np.maximum(inside * (radius * 0.5), 0.0), shown)
