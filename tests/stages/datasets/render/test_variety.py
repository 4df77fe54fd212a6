"""More poses and turns when wanted; not a number drawn when not."""

import numpy as np
import pytest

from stages.datasets.render.poses import (
    EXTRA_POSES,
    GESTURES,
    POSES,
    RANDOM_POSES,
    solve_pose,
)
from stages.datasets.render.script import label_pose
from stages.datasets.render.skeleton import random_shape
from stages.datasets.render.variety import random_pose_names, vary_angles, vary_turn

ANGLES = np.array(POSES["stop"].angles)
TURN = np.array([4.0, -3.0, 10.0], np.float32)


def test_without_variety_nothing_changes_and_nothing_is_drawn() -> None:
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    assert vary_angles(rng, ANGLES, 0.0) is ANGLES
    assert vary_turn(rng, "stop", TURN, 0.0) is TURN
    assert random_pose_names(0.0) == RANDOM_POSES
    assert rng.bit_generator.state == before


def test_counting_hands_are_random_and_come_with_variety_alone() -> None:
    assert not set(EXTRA_POSES) & set(RANDOM_POSES)
    assert set(random_pose_names(0.5)) == {*RANDOM_POSES, *EXTRA_POSES}
    assert {POSES[name].gesture for name in EXTRA_POSES} == {"random"}


@pytest.mark.parametrize("pose", ["fist", "stop", "two", "thumbs_up"])
def test_a_varied_gesture_is_nearest_to_itself(pose: str) -> None:
    rng = np.random.default_rng(2)
    shape = random_shape(rng)
    own = {name: solve_pose(name, shape) for name in GESTURES if name != "random"}
    others = np.stack([solve_pose(name, shape) for name in random_pose_names(1.0)])
    varied = [vary_angles(rng, own[pose], 1.0) for _ in range(40)]
    labels = [label_pose(angles, own, others) for angles in varied]
    assert set(labels) <= {pose, None}, "never another gesture, now and then none"
    assert labels.count(pose) >= 20
    assert np.std(varied, axis=0)[1:].max() > 1.0


def test_thumbs_up_turns_further_than_others() -> None:
    rng = np.random.default_rng(3)
    spread = {
        pose: np.std([vary_turn(rng, pose, TURN, 1.0) for _ in range(300)], axis=0)
        for pose in ("stop", "thumbs_up")
    }
    assert 10 < spread["stop"][0] < 18
    assert spread["thumbs_up"][0] > spread["stop"][0] + 4
    assert spread["thumbs_up"][2] == pytest.approx(spread["stop"][2], rel=0.25)
