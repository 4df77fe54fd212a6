"""More ways to hold and to turn a hand than the plain script has (RenderConfig.pose_variety).

A classifier that has seen one hand shape per gesture, held straight to the camera, fails on
people: they spread or close their fingers, curl them more or less, and turn the wrist. Nothing is
drawn from the generator where the variety is 0, so that such videos stay as they are.
"""

import numpy as np

from stages.datasets.render.poses import EXTRA_POSES, RANDOM_POSES

# Standard deviations at variety 1, in degrees; each is cut at two of them.
_YAW, _PITCH, _ROLL = 14.0, 10.0, 8.0
_CURL, _THUMB = 5.0, 5.0
# A thumbs_up is shown from its front, its back and from above.
_THUMBS_UP_YAW, _THUMBS_UP_PITCH = 30.0, 25.0
_MAX_SPREAD = 1.5  # of a pose's own spread of the fingers
# How much of the common curl each of (spread, MCP, PIP, DIP) gets.
_CURL_SHARES = np.array([0.0, 1.0, 1.0, 0.5])


def random_pose_names(variety: float) -> tuple[str, ...]:
    """Name the poses that mean no gesture; with any variety the counting hands too."""
    return (*RANDOM_POSES, *EXTRA_POSES) if variety > 0.0 else RANDOM_POSES


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
    if pose == "thumbs_up":
        more[0] += rng.uniform(-_THUMBS_UP_YAW, _THUMBS_UP_YAW)
        more[1] += rng.uniform(-_THUMBS_UP_PITCH, _THUMBS_UP_PITCH)
    return (turn + variety * more).astype(np.float32)


def _normal(rng: np.random.Generator, deviation: float) -> float:
    return float(np.clip(rng.normal(0.0, deviation), -2 * deviation, 2 * deviation))
