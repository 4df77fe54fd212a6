"""More ways to hold and to turn a hand than the plain script has (RenderConfig.pose_variety).

A classifier that has seen one hand shape per gesture, held straight to the camera, fails on
people: they spread or close their fingers, curl them more or less, and turn the wrist. Nothing is
drawn from the generator where the variety is 0, so that such videos stay as they are.
"""

from collections.abc import Sequence

import numpy as np

from stages.datasets.render.poses import (
    EXTRA_POSES,
    GESTURES,
    MISLEADING,
    RANDOM_POSES,
    VARIANTS,
    gesture_of,
)
from stages.datasets.render.skeleton import HandShape, default_shape, pose_skeleton

# Standard deviations at variety 1, in degrees; each is cut at two of them.
_YAW, _PITCH, _ROLL = 14.0, 10.0, 8.0
_CURL, _THUMB = 5.0, 5.0
# A thumbs_up is shown from its front, its back, from above and with its knuckles to the viewer.
_THUMBS_UP_YAW, _THUMBS_UP_PITCH = 30.0, (-25.0, 55.0)
# A fist is one from every side; pushed towards the viewer it shows the knuckles.
_FIST_YAW, _FIST_PITCH = 40.0, (-20.0, 75.0)
# The ring of ok is turned to the viewer by up to this less, until index and thumb cover its hole.
_RING_YAW = 24.0
_THUMB_LEAN = 15.0  # of a raised thumb from the vertical
# Poses that are shown with the thumb's side up as well, as thumbs_up is.
_LYING = ("call", "gun", "point", "small", "claw", "relaxed", "half_closed", "bent_over")
_LYING_FRAC = 0.25
# Slim hands with long fingers: factors at variety 1 for the palm's breadth, lengths and radii.
_BREADTH, _LENGTH, _THICKNESS = (0.9, 1.0), (0.98, 1.1), (0.82, 1.02)
_SIDE_ARM_FRAC, _SIDE_ARM_DEG = 0.25, 100.0
_MORE_RANDOM = 1  # holds of no gesture beside the one in a plain deck: their kinds are many
_PLAIN_FRAC = 0.6  # of a gesture's holds have its own form
# What people show most often without meaning one of the gestures, and how many times as often.
_COMMON = ("point", "three", "three_with_thumb", "four", "gun", "call", "horns", "love")
_COMMON_TIMES = 3
_MAX_SPREAD = 1.5  # of a pose's own spread of the fingers
# How much of the common curl each of (spread, MCP, PIP, DIP) gets.
_CURL_SHARES = np.array([0.0, 1.0, 1.0, 0.5])


def random_pose_names(variety: float) -> tuple[str, ...]:
    """Name the poses that mean no gesture; with any variety the counting hands too."""
    return (*RANDOM_POSES, *EXTRA_POSES) if variety > 0.0 else RANDOM_POSES


def gesture_poses(variety: float) -> tuple[str, ...]:
    """Name the poses of the five gestures; with any variety other people's forms of them too."""
    named = tuple(name for name in GESTURES if name != "random")
    return (*named, *VARIANTS) if variety > 0.0 else named


def hold_poses(gesture: str, variety: float) -> tuple[str, ...]:
    """Name the poses that a hand may take to show a gesture, or none (`random`).

    With any variety some come several times, to be drawn as much more often.
    """
    if gesture != "random":
        return tuple(name for name in gesture_poses(variety) if gesture_of(name) == gesture)
    names = random_pose_names(variety)
    return (*names, *MISLEADING, *_COMMON * (_COMMON_TIMES - 1)) if variety > 0.0 else names


def choose_pose(rng: np.random.Generator, gesture: str, poses: Sequence[str]) -> str:
    """Draw one of the poses that hold_poses gave; a gesture's own form is the most frequent."""
    if len(poses) == 1 or (gesture in poses and rng.uniform() < _PLAIN_FRAC):
        return gesture
    return poses[int(rng.integers(len(poses)))]


def gesture_deck(variety: float) -> tuple[str, ...]:
    """What a hand shows in turn before it starts anew: every gesture once."""
    return GESTURES + (("random",) * _MORE_RANDOM if variety > 0.0 else ())


def vary_shape(rng: np.random.Generator, shape: HandShape, variety: float) -> HandShape:
    """Make a person's hand slimmer and its fingers longer, more or less."""
    if variety <= 0.0:
        return shape
    limits = (_BREADTH, _LENGTH, _THICKNESS)
    breadth, length, thickness = (1.0 + variety * (rng.uniform(*one) - 1.0) for one in limits)
    return HandShape(
        bases=(shape.bases * [breadth, 1.0, 1.0]).astype(np.float32),
        lengths=(shape.lengths * length).astype(np.float32),
        radii=(shape.radii * thickness).astype(np.float32),
    )


def vary_angles(rng: np.random.Generator, angles: np.ndarray, variety: float) -> np.ndarray:
    """Spread, curl and thumb of one hold, changed within a gesture: (5, 4) degrees."""
    if variety <= 0.0:
        return angles
    varied = angles.astype(np.float64)
    spread = 1.0 + variety * (float(rng.uniform(0.0, _MAX_SPREAD)) - 1.0)
    varied[1:, 0] = varied[1:, 0] * spread + variety * rng.normal(0.0, 2.0, 4)
    varied[1:] += variety * _normal(rng, _CURL) * _CURL_SHARES
    varied[0] += variety * rng.normal(0.0, _THUMB, 4)
    return varied


def vary_turn(rng: np.random.Generator, pose: str, turn: np.ndarray, variety: float) -> np.ndarray:
    """Turn a hold further from the camera: (3,) yaw, pitch and roll in degrees."""
    if variety <= 0.0:
        return turn
    more = np.array([_normal(rng, one) for one in (_YAW, _PITCH, _ROLL)])
    gesture = gesture_of(pose)
    if gesture == "thumbs_up":
        more[0] += rng.uniform(-_THUMBS_UP_YAW, _THUMBS_UP_YAW)
        more[1] += rng.uniform(*_THUMBS_UP_PITCH)
    if gesture == "fist":
        more[0] += rng.uniform(-_FIST_YAW, _FIST_YAW)
        # The palm faces down then, whichever side was shown.
        more[1] += rng.uniform(*_FIST_PITCH) * np.sign(np.cos(np.radians(turn[0])))
    if gesture == "ok":
        more[0] -= rng.uniform(0.0, _RING_YAW) * np.sign(np.sin(np.radians(2.0 * turn[0])))
    return (turn + variety * more).astype(np.float32)


def raise_thumb(
    rng: np.random.Generator,
    pose: str,
    turn: np.ndarray,
    angles: np.ndarray,
    *,
    thumb_is_right: bool,
    variety: float,
) -> np.ndarray:
    """Roll a hold so that its thumb points up in the picture, or down: (3,) degrees.

    thumb_is_right: the thumb's side is on the picture's right when the fingers point up. A thumb
    that lies along the hand is up when the forearm is nearly upright, one that stands off when it
    is level. Only thumbs_up and now and then a few others are rolled, the rest is as it was.
    """
    if variety <= 0.0:
        return turn
    is_thumb = gesture_of(pose) == "thumbs_up"
    if not is_thumb and not (pose in _LYING and rng.uniform() < _LYING_FRAC * variety):
        return turn
    joints = pose_skeleton(default_shape(), angles).joints
    thumb = joints[4] - joints[2]
    lean = float(np.degrees(np.arctan2(thumb[0], thumb[1])))
    lean = lean if is_thumb else float(rng.uniform(45.0, 100.0))
    roll = lean + (180.0 if pose == "thumbs_down" else 0.0)
    roll = roll if thumb_is_right else -roll
    return np.array([turn[0], turn[1], roll + _normal(rng, _THUMB_LEAN)], np.float32)


def vary_arm(rng: np.random.Generator, variety: float) -> float | None:
    """Draw where a forearm comes from, in degrees from straight below; None as it usually does."""
    if variety <= 0.0 or rng.uniform() >= _SIDE_ARM_FRAC * variety:
        return None
    return float(rng.uniform(-_SIDE_ARM_DEG, _SIDE_ARM_DEG))


def _normal(rng: np.random.Generator, deviation: float) -> float:
    return float(np.clip(rng.normal(0.0, deviation), -2 * deviation, 2 * deviation))
