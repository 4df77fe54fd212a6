"""Gestures are what they are called, on every person's hand."""

import numpy as np
import pytest

from stages.datasets.render.poses import (
    EXTRA_POSES,
    GESTURES,
    MISLEADING,
    POSES,
    RANDOM_POSES,
    VARIANTS,
    blend_poses,
    contact_gap,
    gesture_of,
    solve_pose,
)
from stages.datasets.render.script import (
    FAR_DEG,
    NEAR_DEG,
    is_edge_on,
    judge_view,
    label_pose,
    pose_distance,
)
from stages.datasets.render.skeleton import HandShape, pose_skeleton, random_shape, rotation_matrix
from stages.datasets.render.variety import random_pose_names

TIPS = [8, 12, 16, 20]  # index, middle, ring, little
PALM = np.array([-0.02, 0.25, 0.03])
SPECS = {**POSES, **VARIANTS, **MISLEADING}


def people() -> list[HandShape]:
    return [random_shape(np.random.default_rng(seed)) for seed in range(6)]


def tips(name: str, shape: HandShape) -> np.ndarray:
    return pose_skeleton(shape, solve_pose(name, shape)).joints


@pytest.mark.parametrize("shape", people())
def test_fist_fingertips_are_near_the_palm(shape: HandShape) -> None:
    distance = np.linalg.norm(tips("fist", shape)[TIPS] - PALM, axis=1)
    assert distance.max() < 0.27


@pytest.mark.parametrize("shape", people())
def test_open_fingertips_are_far_from_the_palm(shape: HandShape) -> None:
    distance = np.linalg.norm(tips("stop", shape)[TIPS] - PALM, axis=1)
    assert distance.min() > 0.45


@pytest.mark.parametrize("shape", people())
@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.contact])
def test_thumb_touches_what_it_should(name: str, shape: HandShape) -> None:
    contact = SPECS[name].contact
    assert contact is not None
    assert np.linalg.norm(contact_gap(solve_pose(name, shape), shape, contact)) < 0.03


@pytest.mark.parametrize("shape", people())
@pytest.mark.parametrize("name", ["ok", "ok_flat", "ok_small", "ok_relaxed"])
def test_ok_closes_a_ring_of_thumb_and_index(name: str, shape: HandShape) -> None:
    joints = tips(name, shape)
    touch = shape.radii[0, 3] + shape.radii[1, 3]
    assert np.linalg.norm(joints[4] - joints[8]) < 1.15 * touch
    assert joints[[12, 16, 20], 1].min() > 0.6, "the other three fingers stay up"


@pytest.mark.parametrize("shape", people())
def test_two_raises_index_and_middle_alone(shape: HandShape) -> None:
    height = tips("two", shape)[TIPS, 1]
    assert height[:2].min() > 0.75
    assert height[2:].max() < 0.5


@pytest.mark.parametrize("shape", people())
def test_thumbs_up_points_the_thumb_away_from_the_fist(shape: HandShape) -> None:
    joints = tips("thumbs_up", shape)
    assert joints[4, 0] - joints[[8, 12, 16, 20], 0].max() > 0.25


def test_poses_of_different_labels_are_apart() -> None:
    shape = people()[0]
    angles = {name: solve_pose(name, shape) for name in (*POSES, *VARIANTS)}
    for first in angles:
        for second in angles:
            if gesture_of(first) != gesture_of(second):
                distance = pose_distance(angles[first], angles[second])
                assert distance > 1.5 * NEAR_DEG, (first, second, distance)


@pytest.mark.parametrize("name", POSES)
def test_held_poses_are_labelled_by_their_gesture(name: str) -> None:
    shape = people()[1]
    own = {gesture: solve_pose(gesture, shape) for gesture in GESTURES if gesture != "random"}
    variety = 1.0 if name in EXTRA_POSES else 0.0
    others = np.stack([solve_pose(pose, shape) for pose in random_pose_names(variety)])
    assert label_pose(solve_pose(name, shape), own, others) == POSES[name].gesture


def test_labels_go_from_gesture_over_none_to_random() -> None:
    shape = people()[2]
    own = {gesture: solve_pose(gesture, shape) for gesture in GESTURES if gesture != "random"}
    others = np.stack([solve_pose(pose, shape) for pose in RANDOM_POSES])
    middle = 0.5 * own["stop"] + 0.5 * own["fist"]
    assert label_pose(middle, own, others) == "random"
    step = (NEAR_DEG + FAR_DEG) / 2 / pose_distance(own["stop"], own["fist"])
    assert label_pose(own["stop"] * (1 - step) + own["fist"] * step, own, others) is None


def test_blend_starts_and_ends_at_its_poses() -> None:
    first, second = np.zeros((5, 4), np.float32), np.full((5, 4), 80.0, np.float32)
    np.testing.assert_array_equal(blend_poses(first, second, -1.0), first)
    np.testing.assert_array_equal(blend_poses(first, second, 2.0), second)
    np.testing.assert_allclose(blend_poses(first, second, 0.5), 40.0)


def test_unknown_pose_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        solve_pose("salute", people()[0])


@pytest.mark.parametrize(
    ("gesture", "yaw_deg", "is_left", "expected"),
    [
        ("stop", 0.0, False, False),
        ("stop", 85.0, False, True),
        ("stop", 180.0, True, False),
        ("ok", 30.0, False, False),
        ("ok", -30.0, False, True),
        ("ok", 210.0, False, False),
        ("ok", -30.0, True, False),
        ("ok", 150.0, True, False),
        ("thumbs_up", 30.0, False, False),
        ("thumbs_up", 60.0, False, True),
        (None, 0.0, False, False),
    ],
)
def test_gestures_that_are_turned_away_are_edge_on(
    gesture: str | None, yaw_deg: float, *, is_left: bool, expected: bool
) -> None:
    rotation = rotation_matrix(yaw_deg, 0.0, 0.0)
    assert is_edge_on(rotation, gesture, is_left=is_left) is expected


@pytest.mark.parametrize(
    ("gesture", "yaw_deg", "is_left", "expected"),
    [
        ("fist", 85.0, False, False),
        ("ok", 8.0, False, False),
        ("ok", -8.0, True, False),
        ("ok", 0.0, False, True),
        ("ok", 180.0, True, True),
        ("ok", 150.0, True, False),
        ("ok", -30.0, False, True),
        ("stop", 85.0, False, True),
    ],
)
def test_varied_fists_and_rings_are_known_from_more_sides(
    gesture: str, yaw_deg: float, *, is_left: bool, expected: bool
) -> None:
    rotation = rotation_matrix(yaw_deg, 0.0, 0.0)
    assert is_edge_on(rotation, gesture, is_left=is_left, is_varied=True) is expected


@pytest.mark.parametrize(
    ("roll_deg", "is_left", "expected"),
    [
        (90.0, False, "thumbs_up"),
        (-90.0, True, "thumbs_up"),
        (180.0, False, None),
        (-60.0, False, "random"),
        (60.0, True, "random"),
    ],
)
def test_a_thumb_is_up_as_the_picture_shows_it(
    roll_deg: float, *, is_left: bool, expected: str | None
) -> None:
    joints = tips("thumbs_up", people()[0])
    rotation = rotation_matrix(0.0, 0.0, roll_deg)
    assert judge_view("thumbs_up", joints, rotation, is_left=is_left) == expected


@pytest.mark.parametrize("shape", people())
def test_crossed_fingers_are_not_two(shape: HandShape) -> None:
    rotation = rotation_matrix(0.0, 0.0, 0.0)
    views = [
        judge_view(gesture_of(name), tips(name, shape), rotation, is_left=False)
        for name in ("two", "crossed", "stop")
    ]
    assert views == ["two", "random", "stop"]
