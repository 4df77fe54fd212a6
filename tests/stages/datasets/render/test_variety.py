"""More poses and turns when wanted; not a number drawn when not."""

import numpy as np
import pytest

from stages.datasets.render.poses import (
    EXTRA_POSES,
    GESTURES,
    MISLEADING,
    POSES,
    RANDOM_POSES,
    VARIANTS,
    contact_gap,
    gesture_of,
    solve_pose,
)
from stages.datasets.render.script import label_pose
from stages.datasets.render.skeleton import (
    default_shape,
    pose_skeleton,
    random_shape,
    rotation_matrix,
)
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

ANGLES = np.array(POSES["stop"].angles)
TURN = np.array([4.0, -3.0, 10.0], np.float32)


def test_without_variety_nothing_changes_and_nothing_is_drawn() -> None:
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    assert vary_angles(rng, ANGLES, 0.0) is ANGLES
    assert vary_turn(rng, "stop", TURN, 0.0) is TURN
    thumbs_up = np.array(POSES["thumbs_up"].angles)
    raised = raise_thumb(rng, "thumbs_up", TURN, thumbs_up, thumb_is_right=True, variety=0.0)
    assert raised is TURN
    assert vary_arm(rng, 0.0) is None
    shape = default_shape()
    assert vary_shape(rng, shape, 0.0) is shape
    assert random_pose_names(0.0) == hold_poses("random", 0.0) == RANDOM_POSES
    assert gesture_deck(0.0) == GESTURES
    assert [hold_poses(name, 0.0) for name in GESTURES[:-1]] == [(name,) for name in GESTURES[:-1]]
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


def test_every_form_of_a_gesture_is_shown_and_labelled_by_it() -> None:
    shown = [name for gesture in GESTURES[:-1] for name in hold_poses(gesture, 1.0)]
    assert sorted(shown) == sorted((*GESTURES[:-1], *VARIANTS))
    shape = random_shape(np.random.default_rng(4))
    own = {name: solve_pose(name, shape) for name in gesture_poses(1.0)}
    others = np.stack([solve_pose(name, shape) for name in random_pose_names(1.0)])
    for name in shown:
        assert label_pose(own[name], own, others) == name


def test_a_gestures_own_form_is_drawn_most_often_and_alone_without_variety() -> None:
    rng = np.random.default_rng(10)
    assert choose_pose(rng, "ok", hold_poses("ok", 0.0)) == "ok"
    poses = hold_poses("ok", 1.0)
    drawn = [choose_pose(rng, "ok", poses) for _ in range(500)]
    assert set(drawn) == set(poses)
    assert 250 < drawn.count("ok") < 400
    randoms = [choose_pose(rng, "random", hold_poses("random", 1.0)) for _ in range(2000)]
    assert set(randoms) == {*random_pose_names(1.0), *MISLEADING}
    assert randoms.count("three") > 1.5 * randoms.count("hook")


def test_hands_that_mislead_are_held_as_random_ones_alone() -> None:
    assert set(MISLEADING) < set(hold_poses("random", 1.0))
    assert not set(MISLEADING) & {*random_pose_names(1.0), *gesture_poses(1.0)}


@pytest.mark.parametrize("pose", [*hold_poses("thumbs_up", 1.0), "thumbs_down"])
@pytest.mark.parametrize("yaw_deg", [0.0, 180.0])
@pytest.mark.parametrize("is_left", [False, True])
def test_thumbs_point_up_or_down_on_both_hands_and_sides(
    pose: str, yaw_deg: float, *, is_left: bool
) -> None:
    rng = np.random.default_rng(5)
    shape = random_shape(rng)
    angles = solve_pose(pose, shape)
    joints = pose_skeleton(shape, angles).joints
    thumb = (joints[4] - joints[2]) * (-1.0 if is_left else 1.0, 1.0, 1.0)
    for pitch in (-30.0, 0.0, 30.0):
        turn = np.array([yaw_deg, pitch, 0.0], np.float32)
        right = is_left == (yaw_deg == 180.0)
        raised = raise_thumb(rng, pose, turn, angles, thumb_is_right=right, variety=1.0)
        up = float((rotation_matrix(*raised.tolist()) @ thumb)[1] / np.linalg.norm(thumb))
        assert (-up if pose == "thumbs_down" else up) > 0.6


def test_other_hands_lie_on_their_side_now_and_then() -> None:
    rng = np.random.default_rng(6)
    angles = np.array(POSES["call"].angles)

    def num_rolled(pose: str) -> int:
        raised = [
            raise_thumb(rng, pose, TURN, angles, thumb_is_right=True, variety=1.0)
            for _ in range(100)
        ]
        return sum(one is not TURN for one in raised)

    assert 10 < num_rolled("call") < 45
    assert num_rolled("stop") == 0


def test_a_fist_shows_its_knuckles_with_the_palm_down() -> None:
    rng = np.random.default_rng(7)
    for yaw, sign in ((0.0, 1.0), (180.0, -1.0)):
        turns = [vary_turn(rng, "fist", np.array([yaw, 0.0, 0.0]), 1.0) for _ in range(200)]
        assert np.mean(turns, axis=0)[1] * sign > 15.0


def test_the_ring_of_ok_is_turned_back_towards_the_palm() -> None:
    rng = np.random.default_rng(8)
    for yaw in (30.0, -30.0, 210.0, 150.0):
        turns = [vary_turn(rng, "ok", np.array([yaw, 0.0, 0.0]), 1.0)[0] for _ in range(300)]
        opening = np.sin(2 * np.radians(np.mean(turns)))
        assert 0.1 < abs(opening) < abs(np.sin(2 * np.radians(yaw)))
        assert np.sign(opening) == np.sign(np.sin(2 * np.radians(yaw)))


def test_forearms_come_from_the_sides_too() -> None:
    rng = np.random.default_rng(9)
    arms = [vary_arm(rng, 1.0) for _ in range(400)]
    drawn = np.array([one for one in arms if one is not None])
    assert 60 < len(drawn) < 150
    assert np.abs(drawn).max() <= 100.0
    assert drawn.min() < -60.0
    assert drawn.max() > 60.0


@pytest.mark.parametrize("name", [*VARIANTS, *MISLEADING])
def test_forms_differ_from_their_gesture_in_the_angles_alone(name: str) -> None:
    assert gesture_of(name) in GESTURES[:-1]
    assert name not in POSES


def test_hands_are_slimmer_and_their_fingers_longer() -> None:
    rng = np.random.default_rng(11)
    shape = default_shape()
    shapes = [vary_shape(rng, shape, 1.0) for _ in range(200)]
    thickness = np.array([one.radii[0, 0] / shape.radii[0, 0] for one in shapes])
    length = np.array([one.lengths[2, 1] / shape.lengths[2, 1] for one in shapes])
    breadth = np.array([one.bases[4, 0] / shape.bases[4, 0] for one in shapes])
    for factor, low, high in ((thickness, 0.82, 1.02), (length, 0.98, 1.1), (breadth, 0.9, 1.0)):
        assert low - 1e-6 <= factor.min() < low + 0.02
        assert high - 0.02 < factor.max() <= high + 1e-6


@pytest.mark.parametrize("name", [name for name, spec in VARIANTS.items() if spec.contact])
def test_contacts_close_on_slim_hands_and_from_varied_angles(name: str) -> None:
    rng = np.random.default_rng(12)
    contact = VARIANTS[name].contact
    assert contact is not None
    gaps = []
    for _ in range(12):
        shape = vary_shape(rng, random_shape(rng), 1.0)
        angles = solve_pose(name, shape, vary_angles(rng, solve_pose(name, shape), 1.0))
        gaps.append(float(np.linalg.norm(contact_gap(angles, shape, contact))))
    assert max(gaps) < 0.03
