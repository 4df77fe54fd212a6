"""Gestures are what they are called, on every person's hand."""

import numpy as np
import pytest

from stages.datasets.render.poses import (
    EXTRA_POSES,
    GESTURES,
    POSES,
    RANDOM_POSES,
    blend_poses,
    contact_gap,
    solve_pose,
)
from stages.datasets.render.script import FAR_DEG, NEAR_DEG, is_edge_on, label_pose, pose_distance
from stages.datasets.render.skeleton import HandShape, pose_skeleton, random_shape, rotation_matrix
from stages.datasets.render.variety import random_pose_names

TIPS = [8, 12, 16, 20]  # index, middle, ring, little
PALM = np.array([-0.02, 0.25, 0.03])


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
@pytest.mark.parametrize("name", [name for name, spec in POSES.items() if spec.contact])
def test_thumb_touches_what_it_should(name: str, shape: HandShape) -> None:
    contact = POSES[name].contact
    assert contact is not None
    assert np.linalg.norm(contact_gap(solve_pose(name, shape), shape, contact)) < 0.03


@pytest.mark.parametrize("shape", people())
def test_ok_closes_a_ring_of_thumb_and_index(shape: HandShape) -> None:
    joints = tips("ok", shape)
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
    angles = {name: solve_pose(name, shape) for name in POSES}
    for first in POSES:
        for second in POSES:
            if POSES[first].gesture != POSES[second].gesture:
                assert pose_distance(angles[first], angles[second]) > 1.5 * NEAR_DEG


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
