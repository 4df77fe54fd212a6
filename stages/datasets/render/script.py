"""The script of a video: whose hands move where, turn how, and show which gesture when.

A hand holds a pose for 5 to 8 frames, then changes to the next one in 1 to 3 frames. Its label is
decided
from geometry: close to a gesture's own angles it is that gesture, far from all six it is `random`,
in between it is None (ambiguous); so is a hand seen edge-on. Varied hands have several poses per
gesture, and their view counts too: a thumb that points down, or crossed fingers, are `random`.
"""

from typing import NamedTuple

import numpy as np

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.poses import blend_poses, gesture_of, solve_pose
from stages.datasets.render.skeleton import HandShape, pose_skeleton, random_shape, rotation_matrix
from stages.datasets.render.variety import (
    choose_pose,
    gesture_deck,
    gesture_poses,
    hold_poses,
    raise_thumb,
    random_pose_names,
    vary_angles,
    vary_arm,
    vary_shape,
    vary_turn,
)

FIELDS = ("myleft", "myright", "yourleft", "yourright")
NEAR_DEG, FAR_DEG = 9.0, 23.0
_EDGE_ON = 0.45
_RING_OPENING = 0.2  # sine times cosine of the yaw that opens the ring of ok to the viewer
_COVERED_RING_OPENING = 0.05  # people show it to the palm's side with its hole covered as well
_THUMB_UP, _THUMB_DOWN = 0.6, -0.4  # upward part of the thumb's direction
_CROSSED, _APART = 0.0, 0.03  # of index and middle fingertip, in hand lengths
_LIKE_OTHERS = ("pinch", "claw", "relaxed", "small", "bent_over")  # seen from the back
# The middle of a hand lies this far from the wrist, in hand lengths; it is what the script moves.
_MIDDLE = np.array([0.0, 0.45, 0.0], np.float32)


class HandState(NamedTuple):
    """One hand in one frame; positions in pixels, angles in degrees."""

    middle: tuple[float, float]
    scale: float
    turn: tuple[float, float, float]  # yaw, pitch, roll of skeleton.rotation_matrix
    angles: np.ndarray  # (5, 4)
    label: str | None


class HandScript(NamedTuple):
    field: str
    shape: HandShape
    states: tuple[HandState, ...]
    arm_deg: float | None = None  # of the forearm from straight below; None as its owner sits

    @property
    def is_left(self) -> bool:
        return self.field.endswith("left")

    @property
    def is_mine(self) -> bool:
        return self.field.startswith("my")


class Region(NamedTuple):
    """Where a hand's middle usually is, and its length, as fractions of the frame (height)."""

    x: tuple[float, float]
    y: tuple[float, float]
    length: tuple[float, float]


class _Hold(NamedTuple):
    pose: str
    first: int
    last: int  # inclusive
    angles: np.ndarray
    turn: np.ndarray  # (3,)


def pose_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of the joint angles, in degrees."""
    return float(np.sqrt(np.mean((first - second) ** 2)))


def label_pose(
    angles: np.ndarray,
    gestures: dict[str, np.ndarray],
    poses: np.ndarray,
    far_deg: float = FAR_DEG,
) -> str | None:
    """Name the gesture's pose that angles (5, 4) are.

    gestures: the person's own angles of the five gestures' poses, by name; poses: (P, 5, 4) of the
    other poses. Angles that near one of the others, or are far from all five gestures, are
    `random`; those that near a gesture's pose have its name; anything else is None.
    """
    distances = {name: pose_distance(angles, own) for name, own in gestures.items()}
    nearest = min(distances, key=lambda name: distances[name])
    other = min(pose_distance(angles, own) for own in poses)
    if distances[nearest] <= NEAR_DEG and distances[nearest] < other:
        return nearest
    if distances[nearest] >= far_deg or other <= NEAR_DEG:
        return "random"
    return None


def is_edge_on(
    rotation: np.ndarray, gesture: str | None, *, is_left: bool, is_varied: bool = False
) -> bool:
    """Whether what tells the gesture is turned too far: palm, thumb of thumbs_up, ring of ok.

    is_varied: of varied hands a fist is one from every side, and the ring of ok may be covered
    in front of the palm.
    """
    if gesture == "thumbs_up":
        return float(np.hypot(rotation[0, 0], rotation[1, 0])) < 0.7
    if gesture == "fist" and is_varied:
        return False
    if gesture == "ok":
        opening = float(rotation[2, 0] * rotation[2, 2]) * (1.0 if is_left else -1.0)
        # From the back the palm would hide a ring that is not turned to the viewer.
        is_covered = is_varied and rotation[2, 2] > 0.0
        if opening < (_COVERED_RING_OPENING if is_covered else _RING_OPENING):
            return True
    return abs(float(rotation[2, 2])) < _EDGE_ON


def judge_view(
    gesture: str | None, joints: np.ndarray, rotation: np.ndarray, *, is_left: bool
) -> str | None:
    """Take back a gesture that the hand's angles have and its view has not.

    joints: (21, 3) in the hand's frame. A thumb that points down is `random`, one that points
    sideways is unclear; so are two fingers that are crossed, or nearly.
    """
    if gesture == "thumbs_up":
        thumb = (joints[4] - joints[2]) * (-1.0 if is_left else 1.0, 1.0, 1.0)
        up = float(rotation[1] @ thumb) / float(np.linalg.norm(thumb))
        return _between(up, _THUMB_DOWN, _THUMB_UP, gesture)
    if gesture == "two":
        return _between(float(joints[8, 0] - joints[12, 0]), _CROSSED, _APART, gesture)
    return gesture


def _between(value: float, low: float, high: float, gesture: str) -> str | None:
    if value >= high:
        return gesture
    return "random" if value < low else None


def write_script(
    rng: np.random.Generator, field: str, region: Region, config: RenderConfig, *, is_anchor: bool
) -> HandScript:
    """Write one hand's part within a region. The anchor always stays well inside the frame."""
    variety = config.pose_variety
    shape = vary_shape(rng, random_shape(rng), variety)
    # Who shows a gesture to a camera mostly shows the palm.
    back = (0.62 if field.startswith("my") else 0.35) * (1.0 - 0.4 * variety)
    shows_back = rng.uniform() < back
    frames = config.frames_per_video
    own = {name: solve_pose(name, shape) for name in gesture_poses(variety)}
    others = np.stack([solve_pose(name, shape) for name in random_pose_names(variety)])
    holds = _holds(rng, shape, frames, field, shows_back=shows_back, variety=variety)
    middles = hand_path(rng, frames, field, region, config, is_anchor=is_anchor)
    scales = hand_scales(rng, frames, region, config)
    drift = hand_drift(rng, frames)
    states = []
    for frame in range(frames):
        angles, turn = _pose_at(holds, frame)
        turn = turn + drift[frame]
        label = label_pose(angles, own, others, np.inf if shows_back else FAR_DEG)
        rotation = rotation_matrix(*turn.tolist())
        label = _seen_label(label, shape, angles, rotation, field, is_varied=variety > 0.0)
        scale = fit_height(shape, angles, turn, float(scales[frame]), config)
        middle = (float(middles[frame, 0]), float(middles[frame, 1]))
        states.append(HandState(middle, scale, tuple(turn.tolist()), angles, label))
    return HandScript(field, shape, tuple(states), vary_arm(rng, variety))


def _seen_label(
    pose: str | None,
    shape: HandShape,
    angles: np.ndarray,
    rotation: np.ndarray,
    field: str,
    *,
    is_varied: bool,
) -> str | None:
    """Turn the pose that label_pose found into the gesture that the view shows."""
    is_left = field.endswith("left")
    label = pose if pose in (None, "random") else gesture_of(str(pose))
    if is_varied:
        joints = pose_skeleton(shape, angles).joints
        label = judge_view(label, joints, rotation, is_left=is_left)
    return None if is_edge_on(rotation, label, is_left=is_left, is_varied=is_varied) else label


def wrist_of(state: HandState, rotation: np.ndarray) -> tuple[float, float]:
    """Where the wrist lies when the hand's middle is where the script wants it."""
    offset = rotation @ _MIDDLE * state.scale
    return state.middle[0] - float(offset[0]), state.middle[1] + float(offset[1])


def _holds(
    rng: np.random.Generator,
    shape: HandShape,
    frames: int,
    field: str,
    *,
    shows_back: bool,
    variety: float,
) -> list[_Hold]:
    """Fill the video with holds; shuffled decks bring all five gestures equally often."""
    deck: list[str] = []
    holds: list[_Hold] = []
    hidden = _LIKE_OTHERS if shows_back else ()
    frame = -int(rng.integers(0, 5))
    while frame < frames:
        if not deck:
            cards = gesture_deck(variety)
            deck = [cards[index] for index in rng.permutation(len(cards))]
        gesture = deck.pop()
        names = [name for name in hold_poses(gesture, variety) if name not in hidden]
        pose = choose_pose(rng, gesture, names)
        last = frame + int(rng.integers(4, 8))
        own = solve_pose(pose, shape)
        start = vary_angles(rng, own + rng.normal(0.0, 2.5, (5, 4)), variety)
        angles = solve_pose(pose, shape, start)
        turn = vary_turn(rng, pose, _turn(rng, pose, field, shows_back=shows_back), variety)
        thumb_is_right = field.endswith("right") != shows_back
        turn = raise_thumb(rng, pose, turn, angles, thumb_is_right=thumb_is_right, variety=variety)
        holds.append(_Hold(pose, frame, last, angles, turn))
        frame = last + int(rng.integers(2, 5))
    return holds


def _turn(rng: np.random.Generator, pose: str, field: str, *, shows_back: bool) -> np.ndarray:
    """Draw yaw, pitch and roll of a hold; a thumbs_up lies on its side, its thumb up."""
    gesture = gesture_of(pose)
    has_ring = gesture == "ok" or pose == "pinch"
    away = 8.0 if has_ring else 15.0
    yaw = float(np.clip(rng.normal(0.0, away), -2.1 * away, 2.1 * away))
    yaw += 180.0 if shows_back else 0.0
    pitch = float(np.clip(rng.normal(0.0, 13.0), -32.0, 32.0))
    roll = float(np.clip(rng.normal(0.0, 17.0), -40.0, 40.0))
    if gesture == "thumbs_up":
        thumb_is_right = field.endswith("right") != shows_back
        yaw = 0.6 * (yaw - 180.0 * shows_back) + 180.0 * shows_back
        pitch = float(rng.uniform(-30.0, 30.0))
        roll = 0.8 * roll + (90.0 if thumb_is_right else -90.0)
    if has_ring:
        # The ring is seen as one only when the thumb's side is turned away from its edge.
        yaw += 30.0 if field.endswith("right") else -30.0
    return np.array([yaw, pitch, roll], np.float32)


def _pose_at(holds: list[_Hold], frame: int) -> tuple[np.ndarray, np.ndarray]:
    for hold, following in zip(holds, [*holds[1:], holds[-1]], strict=True):
        if frame <= hold.last:
            return hold.angles, hold.turn
        if frame < following.first:
            fraction = (frame - hold.last) / (following.first - hold.last)
            return (
                blend_poses(hold.angles, following.angles, fraction),
                blend_poses(hold.turn, following.turn, fraction),
            )
    return holds[-1].angles, holds[-1].turn


def hand_drift(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Unrest of the hand: no two frames of a hold are alike; (frames, 3) degrees."""
    time = np.arange(frames)[:, None] * rng.uniform(0.2, 0.55, (1, 3))
    return (np.sin(time + rng.uniform(0, 6.3, (1, 3))) * [9.0, 8.0, 9.0]).astype(np.float32)


def hand_path(
    rng: np.random.Generator,
    frames: int,
    field: str,
    region: Region,
    config: RenderConfig,
    *,
    is_anchor: bool,
) -> np.ndarray:
    """Smooth path of the hand's middle: (frames, 2) pixels."""
    width, height = config.image_wh
    (x0, x1), (y0, y1) = region.x, region.y
    if is_anchor:
        x0, x1 = np.clip((x0, x1), 0.2, 0.8)
        y0, y1 = np.clip((y0, y1), 0.3, 0.7)
    times, points = [], []
    time = 0.0
    here = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1)])
    while True:
        point = here
        if not is_anchor and rng.uniform() < config.border_frac:
            point = _border_point(rng, here, field)
        times.append(time)
        points.append(point)
        if time >= frames:
            break
        time += float(rng.uniform(6, 14))
        here = np.clip(here + rng.normal(0.0, (0.09, 0.10)), (x0, y0), (x1, y1))
    known = np.array(points) * [width, height]
    grid = np.arange(-4, frames + 4)
    path = np.stack([np.interp(grid, times, known[:, axis]) for axis in (0, 1)], axis=1)
    kernel = np.hanning(11)[1:-1]
    smooth = [np.convolve(path[:, axis], kernel / kernel.sum(), mode="same") for axis in (0, 1)]
    return np.stack(smooth, axis=1)[4:-4]


def _border_point(rng: np.random.Generator, here: np.ndarray, field: str) -> np.ndarray:
    """Pull a waypoint towards the nearest border, near enough for the hand to be cut."""
    if field.startswith("my") and rng.uniform() < 0.6:
        return np.array([here[0], rng.uniform(0.93, 1.06)])
    return np.array(
        [rng.uniform(-0.02, 0.04) if here[0] < 0.5 else rng.uniform(0.96, 1.02), here[1]]
    )


def hand_scales(
    rng: np.random.Generator, frames: int, region: Region, config: RenderConfig
) -> np.ndarray:
    """Pixels per hand length over time: (frames,)."""
    base = float(rng.uniform(*region.length)) * config.image_wh[1]
    wave = np.sin(np.arange(frames) * rng.uniform(0.08, 0.25) + rng.uniform(0, 6.3))
    return (base * (1.0 + 0.10 * wave)).astype(np.float32)


def fit_height(
    shape: HandShape, angles: np.ndarray, turn: np.ndarray, scale: float, config: RenderConfig
) -> float:
    """Clamp the scale so that the whole hand's box height stays inside the configured range."""
    rotation = rotation_matrix(*turn.tolist())
    joints = pose_skeleton(shape, angles).joints @ rotation.T
    nearer = 5.0 / (5.0 - joints[:, 2])
    y = joints[:, 1] * nearer
    radii = np.concatenate([[0.1], shape.radii.reshape(-1)]) * nearer
    extent = float((y + radii).max() - (y - radii).min())
    low, high = config.min_hand_height * 1.15, config.max_hand_height * 0.97
    height = config.image_wh[1]
    return float(np.clip(scale, low * height / extent, high * height / extent))
