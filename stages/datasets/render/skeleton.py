"""Hand kinematics: 21 joints from joint angles, for hands of different people.

Hand frame of a RIGHT hand (a left hand is its mirror image in x): the wrist is the origin, +y
points to the middle finger's knuckle, +x to the thumb's side, +z out of the palm. Lengths are in
units of the hand's length (wrist to middle fingertip, about 19 cm). Joints: 0 wrist, then four per
finger (thumb, index, middle, ring, little), from the palm outwards; the thumb's are CMC, MCP, IP
and tip, the others' MCP, PIP, DIP and tip. A "tip" is the centre of the sphere that rounds the
fingertip.

Proportions follow the usual anthropometry of the hand (e.g. Buchholz et al. 1992, "Anthropometric
data for describing the kinematics of the human hand"), rounded and adjusted by eye.
"""

from typing import NamedTuple

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "little")
NUM_JOINTS = 21

# Rows: thumb CMC, then the MCP knuckles of index, middle, ring, little.
_BASES = np.array(
    [
        [0.115, 0.090, 0.045],
        [0.118, 0.470, 0.000],
        [0.012, 0.480, -0.012],
        [-0.088, 0.455, -0.002],
        [-0.172, 0.405, 0.018],
    ],
    np.float32,
)
_LENGTHS = np.array(
    [
        [0.225, 0.162, 0.088],
        [0.225, 0.135, 0.085],
        [0.250, 0.155, 0.090],
        [0.230, 0.145, 0.090],
        [0.175, 0.105, 0.080],
    ],
    np.float32,
)
_RADII = np.array(
    [
        [0.074, 0.062, 0.057, 0.046],
        [0.059, 0.051, 0.046, 0.038],
        [0.059, 0.052, 0.046, 0.039],
        [0.055, 0.049, 0.044, 0.037],
        [0.049, 0.043, 0.038, 0.032],
    ],
    np.float32,
)
# The thumb bends towards the palm's far side; what is perpendicular to its metacarpal counts.
_THUMB_BEND = np.array([-0.95, 0.10, 0.05], np.float32)
# Fingers bend out of the palm and slightly towards the thumb's root, where the tips of a fist
# meet.
_INWARD = np.array([[-0.02, 0, 1], [0.03, 0, 1], [0.10, 0, 1], [0.19, 0, 1]], np.float32)


class HandShape(NamedTuple):
    """Proportions of one person's hand, in hand lengths (see the module's text for the frame)."""

    bases: np.ndarray  # (5, 3)
    lengths: np.ndarray  # (5, 3)
    radii: np.ndarray  # (5, 4)


class Skeleton(NamedTuple):
    """A posed hand: joints, and the unit axis and unit dorsal direction of each finger bone."""

    joints: np.ndarray  # (21, 3)
    axes: np.ndarray  # (5, 3, 3)
    dorsal: np.ndarray  # (5, 3, 3)


def default_shape() -> HandShape:
    return HandShape(_BASES.copy(), _LENGTHS.copy(), _RADII.copy())


def random_shape(rng: np.random.Generator) -> HandShape:
    """Vary finger lengths by a few percent, palm breadth by 8 % and thickness by 14 %."""
    breadth = rng.uniform(0.93, 1.09)
    finger = rng.uniform(0.94, 1.06) * rng.uniform(0.97, 1.03, (5, 1))
    thickness = rng.uniform(0.86, 1.14) * rng.uniform(0.97, 1.03, (5, 1))
    return HandShape(
        bases=(_BASES * [breadth, 1.0, 1.0]).astype(np.float32),
        lengths=(_LENGTHS * finger).astype(np.float32),
        radii=(_RADII * thickness * np.sqrt(breadth)).astype(np.float32),
    )


def pose_skeleton(shape: HandShape, angles_deg: np.ndarray) -> Skeleton:
    """Place the 21 joints for joint angles.

    angles_deg: (5, 4) float. Row 0, thumb: azimuth of the metacarpal from +y towards the thumb's
    side, its elevation out of the palm, flexion at MCP and IP. Other rows: abduction towards the
    thumb's side, flexion at MCP, PIP, DIP. Bending a finger also closes the spread, as real
    ligaments do.
    """
    angles = np.radians(np.asarray(angles_deg, np.float32))
    forward, inward = _bending_planes(angles)  # (5, 3) twice
    bends = np.stack([np.zeros_like(angles[:, 0]), angles[:, 2], angles[:, 3]], axis=1)
    bends[1:] = angles[1:, 1:]
    total = np.cumsum(bends, axis=1)[..., None]  # (5, 3, 1)
    cosine, sine = np.cos(total), np.sin(total)
    axes = cosine * forward[:, None] + sine * inward[:, None]  # (5, 3, 3)
    dorsal = sine * forward[:, None] - cosine * inward[:, None]
    steps = np.cumsum(axes * shape.lengths[..., None], axis=1)
    chain = np.concatenate([shape.bases[:, None], shape.bases[:, None] + steps], axis=1)
    joints = np.concatenate([np.zeros((1, 3), np.float32), chain.reshape(20, 3)])
    return Skeleton(joints.astype(np.float32), axes, dorsal)


def _bending_planes(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each finger's unit vector of no flexion and the one it bends towards: (5, 3)."""
    spread = angles[1:, 0] * (1.0 - 0.75 * np.sin(np.clip(angles[1:, 1], 0.0, np.pi / 2)))
    fingers = np.stack([np.sin(spread), np.cos(spread), np.zeros_like(spread)], axis=1)
    azimuth, elevation = angles[0, 0], angles[0, 1]
    thumb = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.cos(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ],
        np.float32,
    )
    bend = _THUMB_BEND - thumb * (thumb @ _THUMB_BEND)
    inward = _INWARD - fingers * (_INWARD * fingers).sum(axis=1, keepdims=True)
    inward = np.concatenate([bend[None], inward])
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    return np.concatenate([[thumb], fingers]).astype(np.float32), inward.astype(np.float32)


def rotation_matrix(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """Rotate hand coordinates into camera coordinates (x right, y up, z to the viewer): (3, 3).

    Yaw turns about the hand's own long axis (0 shows the palm, 180 the back), pitch then tips the
    fingers towards the viewer, roll then turns counter-clockwise in the picture.
    """
    yaw, pitch, roll = np.radians([yaw_deg, pitch_deg, roll_deg])
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tip = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    spin = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (spin @ tip @ turn).astype(np.float32)
