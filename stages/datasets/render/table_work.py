"""The script of people at work at a table: hands that lie, hold, pinch and reach, close together.

Nobody shows a gesture here. EgoHands' hands play cards, chess, Jenga and puzzles: the partner's
come from the far side with their fingers inward or towards the viewer, the viewer's own from
below, and both of a person's hands are mostly near each other, often touching.
"""

from typing import NamedTuple

import numpy as np

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.poses import POSES, blend_poses
from stages.datasets.render.script import (
    HandScript,
    HandState,
    Region,
    fit_height,
    hand_drift,
    hand_path,
    hand_scales,
)
from stages.datasets.render.skeleton import random_shape

# (5, 4) joint angles as in poses.py, of hands that do something.
_WORK_POSES = {
    "flat": ((34.0, 10.0, 6.0, 6.0), *[(2.0, 14.0, 16.0, 8.0)] * 4),
    "grip": ((32.0, 46.0, 18.0, 30.0), *[(1.0, 58.0, 62.0, 34.0)] * 4),
    "fan of cards": ((36.0, 40.0, 6.0, 10.0), *[(0.0, 30.0, 80.0, 46.0)] * 4),
    "tripod": (
        (36.0, 42.0, 14.0, 28.0),
        (2.0, 46.0, 42.0, 24.0),
        (0.0, 50.0, 48.0, 26.0),
        (-2.0, 66.0, 74.0, 40.0),
        (-3.0, 70.0, 78.0, 42.0),
    ),
    **{name: POSES[name].angles for name in ("relaxed", "claw", "pinch", "fist", "point")},
}
_UNREST_DEG = 7.0  # of every joint, from hold to hold
_FACING_YAWS_DEG = (180.0, 112.0, 248.0, 20.0)  # the back, the two edges, the palm
_FACING_SHARES = (0.5, 0.18, 0.18, 0.14)
_TOGETHER_FRAC = 0.65  # of the people hold their hands near each other


class _Hold(NamedTuple):
    first: int
    angles: np.ndarray  # (5, 4)
    turn: np.ndarray  # (3,) yaw, pitch, roll in degrees


def write_work(
    rng: np.random.Generator,
    side: str,
    region: Region,
    config: RenderConfig,
    *,
    is_pair: bool,
) -> tuple[HandScript, ...]:
    """Write the part of one person's hands, one or both, without a gesture in it.

    side: "my" or "your". region: where the middle between the hands usually is.
    """
    frames = config.frames_per_video
    shape = random_shape(rng)
    scales = hand_scales(rng, frames, region, config)
    middle = hand_path(rng, frames, f"{side}right", region, config, is_anchor=False)
    offsets = _offsets(rng, frames, scales, is_pair=is_pair)
    scripts = []
    for hand, offset in zip(("left", "right"), offsets, strict=True):
        is_on_left = (hand == "left") == (side == "my")
        path = middle + offset * (-1.0 if is_on_left else 1.0, 1.0)
        holds = _holds(rng, frames, side, is_on_left=is_on_left)
        drift = hand_drift(rng, frames)
        states = []
        for frame in range(frames):
            angles, turn = _pose_at(holds, frame)
            turn = turn + drift[frame]
            scale = fit_height(shape, angles, turn, float(scales[frame]), config)
            place = (float(path[frame, 0]), float(path[frame, 1]))
            states.append(HandState(place, scale, tuple(turn.tolist()), angles, None))
        scripts.append(HandScript(f"{side}{hand}", shape, tuple(states)))
    if not is_pair:
        return (scripts[int(rng.integers(2))],)
    return (scripts[0], scripts[1]) if rng.uniform() < 0.5 else (scripts[1], scripts[0])


def work_region(side: str, *, horizon: float, face: float) -> Region:
    """Where a person's hands are: the partner's on the far half of the table, mine in front.

    horizon: the table's far edge; face: the partner's face height, both fractions of the height.
    """
    if side == "my":
        return Region((0.3, 0.7), (0.66, 0.96), (0.2, 0.42))
    y = (horizon - 0.06, min(horizon + 0.28, 0.78))
    return Region((0.32, 0.68), y, (0.72 * face, 1.0 * face))


def _offsets(
    rng: np.random.Generator, frames: int, scales: np.ndarray, *, is_pair: bool
) -> list[np.ndarray]:
    """How far the hands are outward and below their common middle: two of (frames, 2) pixels."""
    if not is_pair:
        return [np.zeros((frames, 2))] * 2
    near = rng.uniform() < _TOGETHER_FRAC
    half = rng.uniform(0.24, 0.5) if near else rng.uniform(0.55, 1.3)
    time = np.arange(frames)
    offsets = []
    for _ in range(2):
        wave = np.sin(time * rng.uniform(0.1, 0.4) + rng.uniform(0.0, 6.3))
        lift = 0.18 * np.sin(time * rng.uniform(0.1, 0.4) + rng.uniform(0.0, 6.3))
        reach = half * (1.0 + 0.35 * wave)
        offsets.append(np.stack([reach, lift + rng.normal(0.0, 0.12)], axis=1) * scales[:, None])
    return offsets


def _holds(rng: np.random.Generator, frames: int, side: str, *, is_on_left: bool) -> list[_Hold]:
    """Fill the video with holds of 4 to 12 frames, each a mixture of two poses."""
    names = list(_WORK_POSES)
    holds: list[_Hold] = []
    frame = -int(rng.integers(0, 5))
    while frame < frames:
        first, second = (np.array(_WORK_POSES[names[i]]) for i in rng.integers(len(names), size=2))
        angles = first + rng.uniform() * (second - first)
        angles = (angles + rng.normal(0.0, _UNREST_DEG, (5, 4))).astype(np.float32)
        holds.append(_Hold(frame, angles, _turn(rng, side, is_on_left=is_on_left)))
        frame += int(rng.integers(4, 13))
    return holds


def _turn(rng: np.random.Generator, side: str, *, is_on_left: bool) -> np.ndarray:
    """Draw yaw, pitch and roll: mine point up and inward, the partner's inward and down."""
    yaw = float(rng.choice(_FACING_YAWS_DEG, p=_FACING_SHARES)) + rng.normal(0.0, 24.0)
    if side == "my":
        inward, pitch = rng.normal(28.0, 28.0), rng.normal(-18.0, 22.0)
    else:
        inward, pitch = rng.normal(105.0, 34.0), rng.normal(16.0, 24.0)
    roll = -inward if is_on_left else inward
    # A left hand is the mirror image of a right one.
    is_left = is_on_left == (side == "my")
    yaw = -yaw if is_left else yaw
    return np.array([yaw, np.clip(pitch, -60.0, 60.0), roll], np.float32)


def _pose_at(holds: list[_Hold], frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Rest in the first half of a hold, then go over to the next one."""
    for hold, following in zip(holds, [*holds[1:], holds[-1]], strict=True):
        if hold.first <= frame < following.first:
            fraction = 2.0 * (frame - hold.first) / (following.first - hold.first) - 1.0
            angles = blend_poses(hold.angles, following.angles, fraction)
            return angles, blend_poses(hold.turn, following.turn, fraction)
    return holds[-1].angles, holds[-1].turn
