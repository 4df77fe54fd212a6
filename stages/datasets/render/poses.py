"""Hand poses: joint angles per gesture, thumb contacts solved per person, and in-between poses.

A pose is a (5, 4) array of degrees (see skeleton.pose_skeleton). Where a gesture needs the thumb
to touch something (the ring of `ok`, the thumb over the knuckles of a fist) a few Gauss-Newton
steps move the angles until it does, whatever the person's proportions.
"""

from typing import NamedTuple

import numpy as np

from stages.datasets.render.skeleton import HandShape, pose_skeleton

GESTURES = ("thumbs_up", "fist", "stop", "ok", "two", "random")

_CURLED = (82.0, 100.0, 62.0)
_OPEN = (4.0, 6.0, 4.0)


class Contact(NamedTuple):
    """The thumb's tip touches a finger: its tip (bone None) or the outside of its middle bone."""

    finger: int
    at_tip: bool
    toward: int  # a second finger: the target is moved half-way to it; equal to finger for none


class PoseSpec(NamedTuple):
    gesture: str
    angles: tuple[tuple[float, float, float, float], ...]
    contact: Contact | None = None


def _fingers(
    thumb: tuple[float, float, float, float], *flexions: tuple[float, float, float], spread: float
) -> tuple[tuple[float, float, float, float], ...]:
    fan = (1.0, 0.1, -0.8, -1.7)
    return (thumb, *((spread * f, *flexion) for f, flexion in zip(fan, flexions, strict=True)))


_ACROSS = (26.0, 44.0, 16.0, 40.0)
POSES: dict[str, PoseSpec] = {
    "thumbs_up": PoseSpec(
        "thumbs_up", _fingers((66.0, 4.0, -10.0, -14.0), *[_CURLED] * 4, spread=3.0)
    ),
    "fist": PoseSpec("fist", _fingers(_ACROSS, *[_CURLED] * 4, spread=3.0), Contact(1, False, 2)),
    "stop": PoseSpec("stop", _fingers((46.0, 14.0, 4.0, 2.0), *[_OPEN] * 4, spread=9.0)),
    "ok": PoseSpec(
        "ok",
        _fingers(
            (42.0, 38.0, 16.0, 30.0),
            (48.0, 52.0, 34.0),
            (16.0, 16.0, 8.0),
            (8.0, 10.0, 6.0),
            (2.0, 6.0, 4.0),
            spread=9.0,
        ),
        Contact(1, True, 1),
    ),
    "two": PoseSpec(
        "two",
        _fingers(_ACROSS, _OPEN, _OPEN, _CURLED, _CURLED, spread=11.0),
        Contact(3, False, 3),
    ),
    "point": PoseSpec(
        "random",
        _fingers(_ACROSS, _OPEN, _CURLED, _CURLED, _CURLED, spread=4.0),
        Contact(2, False, 2),
    ),
    "claw": PoseSpec(
        "random", _fingers((40.0, 34.0, 12.0, 26.0), *[(32.0, 52.0, 34.0)] * 4, spread=9.0)
    ),
    "relaxed": PoseSpec(
        "random",
        _fingers(
            (30.0, 28.0, 14.0, 16.0),
            (26.0, 34.0, 18.0),
            (36.0, 42.0, 22.0),
            (44.0, 46.0, 24.0),
            (48.0, 46.0, 24.0),
            spread=3.0,
        ),
    ),
    "pinch": PoseSpec(
        "random",
        _fingers((38.0, 44.0, 14.0, 24.0), *[(54.0, 38.0, 24.0)] * 4, spread=-3.0),
        Contact(1, True, 2),
    ),
    "horns": PoseSpec(
        "random",
        _fingers(_ACROSS, _OPEN, _CURLED, _CURLED, _OPEN, spread=8.0),
        Contact(2, False, 3),
    ),
    "call": PoseSpec(
        "random",
        _fingers((66.0, 4.0, -8.0, -8.0), *[_CURLED] * 3, (6.0, 8.0, 4.0), spread=14.0),
    ),
    "gun": PoseSpec(
        "random",
        _fingers((66.0, 4.0, -6.0, -6.0), _OPEN, _CURLED, _CURLED, _CURLED, spread=4.0),
    ),
}
RANDOM_POSES = tuple(name for name, spec in POSES.items() if spec.gesture == "random")
# Counting hands and others that are one finger away from a gesture: drawn with pose_variety only.
_SIDE = (66.0, 4.0, -8.0, -8.0)
_HALF = (40.0, 50.0, 30.0)
EXTRA_POSES: dict[str, PoseSpec] = {
    "three": PoseSpec(
        "random",
        _fingers((20.0, 46.0, 34.0, 50.0), _OPEN, _OPEN, _OPEN, _CURLED, spread=9.0),
    ),
    "four": PoseSpec("random", _fingers((18.0, 46.0, 30.0, 40.0), *[_OPEN] * 4, spread=8.0)),
    "three_with_thumb": PoseSpec(
        "random",
        _fingers((62.0, 6.0, -6.0, -6.0), _OPEN, _OPEN, _CURLED, _CURLED, spread=10.0),
    ),
    "little": PoseSpec(
        "random",
        _fingers(_ACROSS, _CURLED, _CURLED, _CURLED, _OPEN, spread=6.0),
        Contact(2, False, 3),
    ),
    "outer_two": PoseSpec(
        "random",
        _fingers(_ACROSS, _CURLED, _CURLED, _OPEN, _OPEN, spread=6.0),
        Contact(2, False, 2),
    ),
    "middle": PoseSpec(
        "random",
        _fingers(_ACROSS, _CURLED, _OPEN, _CURLED, _CURLED, spread=3.0),
        Contact(3, False, 3),
    ),
    "love": PoseSpec("random", _fingers(_SIDE, _OPEN, _CURLED, _CURLED, _OPEN, spread=12.0)),
    "half_closed": PoseSpec(
        "random", _fingers((40.0, 30.0, 14.0, 20.0), *[_HALF] * 4, spread=3.0)
    ),
    "touch_middle": PoseSpec(
        "random",
        _fingers((34.0, 46.0, 18.0, 30.0), _OPEN, (50.0, 56.0, 34.0), _OPEN, _OPEN, spread=9.0),
        Contact(2, True, 2),
    ),
    "touch_ring": PoseSpec(
        "random",
        _fingers((26.0, 52.0, 24.0, 34.0), _OPEN, _OPEN, (58.0, 58.0, 34.0), _OPEN, spread=9.0),
        Contact(3, True, 3),
    ),
    "touch_little": PoseSpec(
        "random",
        _fingers((18.0, 56.0, 30.0, 36.0), _OPEN, _OPEN, _OPEN, (66.0, 60.0, 34.0), spread=9.0),
        Contact(4, True, 4),
    ),
    "small": PoseSpec(
        "random",
        _fingers((44.0, 36.0, 6.0, 16.0), (34.0, 46.0, 26.0), *[_CURLED] * 3, spread=3.0),
    ),
    "hook": PoseSpec(
        "random",
        _fingers(_ACROSS, (14.0, 76.0, 44.0), _CURLED, _CURLED, _CURLED, spread=4.0),
        Contact(2, False, 2),
    ),
    "two_hooks": PoseSpec(
        "random",
        _fingers(_ACROSS, *[(16.0, 66.0, 40.0)] * 2, _CURLED, _CURLED, spread=9.0),
        Contact(3, False, 3),
    ),
    "bent_over": PoseSpec(
        "random", _fingers((40.0, 26.0, 10.0, 14.0), *[(72.0, 18.0, 10.0)] * 4, spread=2.0)
    ),
}
POSES.update(EXTRA_POSES)
# Other people's ways to make a gesture, and hands with a gesture's angles that mean nothing by the
# way they are held (script.judge_view); both are drawn with pose_variety only.
VARIANTS: dict[str, PoseSpec] = {
    "thumbs_up_straight": PoseSpec(
        "thumbs_up", _fingers((42.0, 8.0, -8.0, -10.0), *[_CURLED] * 4, spread=3.0)
    ),
    "thumbs_up_bent_back": PoseSpec(
        "thumbs_up", _fingers((70.0, 4.0, -16.0, -36.0), *[_CURLED] * 4, spread=3.0)
    ),
    "thumbs_up_loose": PoseSpec(
        "thumbs_up", _fingers((60.0, 8.0, -8.0, -8.0), *[(70.0, 86.0, 46.0)] * 4, spread=3.0)
    ),
    "stop_closed": PoseSpec("stop", _fingers((32.0, 8.0, 2.0, 0.0), *[_OPEN] * 4, spread=1.0)),
    "ok_flat": PoseSpec(
        "ok",
        _fingers((44.0, 40.0, 6.0, 8.0), (64.0, 32.0, 10.0), _OPEN, _OPEN, _OPEN, spread=9.0),
        Contact(1, True, 1),
    ),
    "ok_small": PoseSpec(
        "ok",
        _fingers((38.0, 34.0, 24.0, 40.0), (38.0, 84.0, 44.0), _OPEN, _OPEN, _OPEN, spread=10.0),
        Contact(1, True, 1),
    ),
    "ok_covered": PoseSpec(
        "ok",
        _fingers((36.0, 38.0, 20.0, 34.0), (62.0, 94.0, 54.0), _OPEN, _OPEN, _OPEN, spread=9.0),
        Contact(1, True, 1),
    ),
    "ok_relaxed": PoseSpec(
        "ok",
        _fingers(
            (42.0, 38.0, 16.0, 30.0),
            (50.0, 52.0, 34.0),
            (28.0, 28.0, 14.0),
            (18.0, 22.0, 12.0),
            (10.0, 16.0, 10.0),
            spread=4.0,
        ),
        Contact(1, True, 1),
    ),
    "two_tip_on_tip": PoseSpec(
        "two",
        _fingers(_ACROSS, _OPEN, _OPEN, *[(76.0, 96.0, 56.0)] * 2, spread=11.0),
        Contact(3, True, 3),
    ),
}
MISLEADING: dict[str, PoseSpec] = {
    "thumbs_down": PoseSpec("thumbs_up", POSES["thumbs_up"].angles),
    "crossed": PoseSpec(
        "two",
        (
            _ACROSS,
            (-9.0, 6.0, 8.0, 4.0),
            (9.0, 14.0, 12.0, 6.0),
            (-4.0, *_CURLED),
            (-8.0, *_CURLED),
        ),
        Contact(3, False, 3),
    ),
}
_ALL_POSES = {**POSES, **VARIANTS, **MISLEADING}


def gesture_of(name: str) -> str:
    """Name the gesture whose joint angles a pose has. Raises KeyError for an unknown name."""
    return _ALL_POSES[name].gesture


def solve_pose(name: str, shape: HandShape, start: np.ndarray | None = None) -> np.ndarray:
    """Angles of a named pose for one person's hand, its contact closed: (5, 4) degrees.

    start: (5, 4) degrees to close the contact from; None is the pose's own angles. Raises KeyError
    for an unknown name.
    """
    spec = _ALL_POSES[name]
    angles = np.array(spec.angles if start is None else start, np.float32)
    return angles if spec.contact is None else _close_contact(angles, shape, spec.contact)


def contact_gap(angles: np.ndarray, shape: HandShape, contact: Contact) -> np.ndarray:
    """Vector from where the thumb's tip should be to where it is, (3,), in hand lengths."""
    skeleton = pose_skeleton(shape, angles)
    joints = skeleton.joints
    thumb = joints[4]
    pair = [_contact_point(joints, finger, contact.at_tip) for finger in contact[::2]]
    target = (pair[0] + pair[1]) / 2
    reach = shape.radii[0, 3] + shape.radii[contact.finger, 3]
    if contact.at_tip:
        away = thumb - target
        away = away / max(float(np.linalg.norm(away)), 1e-6)
    else:
        outside = skeleton.dorsal[contact.finger, 1]
        away, reach = outside, reach * 1.05
    return thumb - (target + away * reach * (0.86 if contact.at_tip else 1.0))


def _contact_point(joints: np.ndarray, finger: int, at_tip: bool) -> np.ndarray:
    first = 1 + 4 * finger
    return joints[first + 3] if at_tip else joints[first + 1] * 0.5 + joints[first + 2] * 0.5


def _close_contact(angles: np.ndarray, shape: HandShape, contact: Contact) -> np.ndarray:
    """Damped Gauss-Newton on the thumb's angles, for a tip contact on the finger's bends too."""
    free = [(0, 0), (0, 1), (0, 2), (0, 3)]
    if contact.at_tip:
        free += [(contact.finger, 1), (contact.finger, 2)]
    solved = angles.copy()
    for _ in range(10):
        gap = contact_gap(solved, shape, contact)
        if np.linalg.norm(gap) < 0.008:
            break
        jacobian = np.empty((3, len(free)), np.float32)
        for column, index in enumerate(free):
            moved = solved.copy()
            moved[index] += 2.0
            jacobian[:, column] = (contact_gap(moved, shape, contact) - gap) / 2.0
        normal = jacobian.T @ jacobian + 2e-6 * np.eye(len(free), dtype=np.float32)
        step = np.clip(np.linalg.solve(normal, -jacobian.T @ gap), -12.0, 12.0)
        for value, index in zip(step, free, strict=True):
            solved[index] += value
        solved[0] = np.clip(solved[0], (-18.0, -5.0, -25.0, -25.0), (80.0, 75.0, 70.0, 85.0))
    return solved


def blend_poses(start: np.ndarray, end: np.ndarray, fraction: float) -> np.ndarray:
    """Mix two poses with ease-in and ease-out; fraction outside [0, 1] is clipped."""
    x = min(max(fraction, 0.0), 1.0)
    eased = x * x * (3.0 - 2.0 * x)
    return start + (end - start) * np.float32(eased)
