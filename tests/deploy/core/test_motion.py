"""Motion of one box: rest, constant velocity, damping, and time instead of frames."""

import numpy as np
import pytest

from deploy.core.motion import MotionRule, follow_box, predict_box, start_motion

BOX = np.array([100.0, 50.0, 180.0, 130.0])
RULE = MotionRule()


def moved(x, y):
    return BOX + np.array([x, y, x, y])


def follow(velocity, *, seconds=2.0, rate=30.0, rule=RULE):
    """The state after a hand has moved at a velocity from BOX on."""
    motion = start_motion(BOX, time_s=0.0)
    for frame in range(1, int(seconds * rate) + 1):
        time_s = frame / rate
        box = moved(velocity[0] * time_s, velocity[1] * time_s)
        motion = follow_box(motion, box, rule, time_s=time_s)
    return motion


def test_hand_that_was_seen_once_is_expected_where_it_was():
    motion = start_motion(BOX, time_s=1.0)
    for time_s in (1.0, 1.1, 9.0):
        np.testing.assert_array_equal(predict_box(motion, RULE, time_s=time_s), BOX)


@pytest.mark.parametrize("velocity", [(0, 0), (300, 0), (0, -120), (-250, 90)])
def test_steady_velocity_is_learnt_and_the_next_box_predicted(velocity):
    motion = follow(velocity)
    np.testing.assert_allclose(motion.velocity, velocity, atol=1e-6)
    time_s = 2.0 + 1 / 30
    expected = moved(velocity[0] * time_s, velocity[1] * time_s)
    # Dying away costs 3 % of one frame's way.
    np.testing.assert_allclose(predict_box(motion, RULE, time_s=time_s), expected, atol=0.4)


def test_unseen_hand_coasts_less_and_less_and_not_beyond_its_decay():
    motion = follow((200, 0))
    way = [predict_box(motion, RULE, time_s=2.0 + gap)[0] - motion.xyxy[0] for gap in range(9)]
    assert way[0] == 0
    steps = np.diff(way)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()
    assert way[-1] < 200 * RULE.decay_s
    assert predict_box(motion, RULE, time_s=99.0)[0] - motion.xyxy[0] == pytest.approx(100)


def test_prediction_keeps_width_and_height():
    box = np.array(predict_box(follow((200, -80)), RULE, time_s=2.3))
    np.testing.assert_allclose(box[2:] - box[:2], [80, 80])


def test_growing_in_place_is_no_motion():
    motion = start_motion(BOX, time_s=0.0)
    motion = follow_box(motion, BOX + [-5, -9, 5, 9], RULE, time_s=0.1)
    np.testing.assert_allclose(motion.velocity, 0)


def test_velocity_depends_on_seconds_and_not_on_frames():
    slow, fast = (follow((200, 50), seconds=0.2, rate=rate).velocity for rate in (10.0, 60.0))
    np.testing.assert_allclose(slow, fast, rtol=1e-9)


def test_two_sightings_at_one_time_leave_the_velocity():
    motion = follow((200, 0))
    again = follow_box(motion, moved(999, 0), RULE, time_s=motion.seen_s)
    np.testing.assert_array_equal(again.velocity, motion.velocity)
    np.testing.assert_array_equal(again.xyxy, moved(999, 0))


def test_without_decay_time_nothing_is_predicted_and_without_average_the_last_step_counts():
    rule = MotionRule(average_s=0.0, decay_s=0.0)
    motion = follow_box(start_motion(BOX, time_s=0), moved(10, 0), rule, time_s=0.1)
    np.testing.assert_allclose(motion.velocity, [100, 0])
    np.testing.assert_array_equal(predict_box(motion, rule, time_s=5.0), moved(10, 0))


def test_state_keeps_no_view_of_the_boxes():
    box = BOX.copy()
    motion = follow_box(start_motion(box, time_s=0.0), box, RULE, time_s=0.1)
    box[:] = 0
    np.testing.assert_array_equal(predict_box(motion, RULE, time_s=0.1), BOX)
