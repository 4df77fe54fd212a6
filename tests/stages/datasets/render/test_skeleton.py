"""Kinematics: what no pose may change, and where joints must be."""

import numpy as np
import pytest

from stages.datasets.render.poses import POSES, solve_pose
from stages.datasets.render.skeleton import (
    NUM_JOINTS,
    default_shape,
    pose_skeleton,
    random_shape,
    rotation_matrix,
)


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    fingers = joints[1:].reshape(5, 4, 3)
    return np.linalg.norm(np.diff(fingers, axis=1), axis=2)


@pytest.mark.parametrize("name", POSES)
def test_bone_lengths_are_constant_under_every_pose(name: str) -> None:
    shape = random_shape(np.random.default_rng(1))
    joints = pose_skeleton(shape, solve_pose(name, shape)).joints
    assert joints.shape == (NUM_JOINTS, 3)
    np.testing.assert_allclose(bone_lengths(joints), shape.lengths, atol=1e-5)


def test_bone_lengths_are_constant_for_any_angles() -> None:
    rng = np.random.default_rng(2)
    shape = random_shape(rng)
    for _ in range(20):
        joints = pose_skeleton(shape, rng.uniform(-30, 110, (5, 4))).joints
        np.testing.assert_allclose(bone_lengths(joints), shape.lengths, atol=1e-5)


def test_straight_middle_finger_points_up() -> None:
    joints = pose_skeleton(default_shape(), np.zeros((5, 4))).joints
    # MCP at y = 0.480 and bones of 0.250 + 0.155 + 0.090 straight along y.
    np.testing.assert_allclose(joints[12], [0.012, 0.975, -0.012], atol=1e-6)


def test_right_angle_at_the_knuckle_points_out_of_the_palm() -> None:
    angles = np.zeros((5, 4))
    angles[1, 1] = 90.0
    joints = pose_skeleton(default_shape(), angles).joints
    direction = (joints[8] - joints[5]) / np.linalg.norm(joints[8] - joints[5])
    np.testing.assert_allclose(direction, [0.0, 0.0, 1.0], atol=0.03)


def test_axes_and_dorsal_directions_are_unit_and_perpendicular() -> None:
    rng = np.random.default_rng(3)
    skeleton = pose_skeleton(default_shape(), rng.uniform(-20, 90, (5, 4)))
    np.testing.assert_allclose(np.linalg.norm(skeleton.axes, axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(skeleton.dorsal, axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose((skeleton.axes * skeleton.dorsal).sum(axis=2), 0.0, atol=1e-5)


@pytest.mark.parametrize("angles", [(0, 0, 0), (180, 0, 0), (30, -20, 50)])
def test_rotation_keeps_lengths_and_handedness(angles: tuple[float, float, float]) -> None:
    matrix = rotation_matrix(*angles)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-6)


def test_roll_turns_the_fingers_counter_clockwise() -> None:
    np.testing.assert_allclose(rotation_matrix(0, 0, 90) @ [0, 1, 0], [-1, 0, 0], atol=1e-6)


def test_yaw_of_half_a_turn_shows_the_back() -> None:
    np.testing.assert_allclose(rotation_matrix(180, 0, 0) @ [0, 0, 1], [0, 0, -1], atol=1e-6)
