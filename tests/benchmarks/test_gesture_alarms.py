"""A hand that is taken for a gesture once alarms nobody; one that is so for long does."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gesture_alarms import alarm_shares, frame_boxes
from deploy.core.kitti import format_labels, hand_label

IDLE = 2
NAMES = [f"video_frame_{frame:04d}#{hand}" for frame in range(10) for hand in range(2)]
BOXES = np.array([[10, 10, 50, 50], [200, 10, 240, 50]] * 10, np.float32)


def shares_of(gesture_frames: dict[int, range], confidence: float = 0.9) -> dict[str, float]:
    """The shares where each hand shows class 0 in its frames, and is idle in the others."""
    probabilities = np.zeros((20, 3))
    for index in range(20):
        frame, hand = divmod(index, 2)
        best = 0 if frame in gesture_frames.get(hand, ()) else IDLE
        probabilities[index] = (1 - confidence) / 2
        probabilities[index, best] = confidence
    return alarm_shares(NAMES, BOXES, probabilities, idle=IDLE)


def test_quiet_hands_alarm_nobody() -> None:
    assert set(shares_of({}).values()) == {0.0}


def test_one_frame_counts_as_one_and_begins_nothing() -> None:
    expected = {"false_alarms": 0.05, "sure_alarms": 0.05, "smoothed_alarms": 0.0}
    assert shares_of({1: range(4, 5)}) == expected


def test_a_long_mistake_begins_a_gesture() -> None:
    shares = shares_of({0: range(10)})
    assert shares["sure_alarms"] == 0.5
    assert 0.3 <= shares["smoothed_alarms"] < 0.5  # it takes the smoother's time to begin


def test_a_doubtful_mistake_is_not_sure() -> None:
    shares = shares_of({0: range(10)}, confidence=0.5)
    assert (shares["false_alarms"], shares["sure_alarms"]) == (0.5, 0.0)
    assert shares["smoothed_alarms"] == 0.0


def test_no_hands_give_no_alarm() -> None:
    shares = alarm_shares([], np.zeros((0, 4), np.float32), np.zeros((0, 3)), idle=IDLE)
    assert set(shares.values()) == {0.0}


def test_boxes_are_those_of_the_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    boxes = [(1.0, 2.0, 30.0, 40.0), (5.0, 6.0, 70.0, 80.0)]
    text = format_labels([hand_label(box) for box in boxes])
    (tmp_path / "labels" / "a_1.txt").write_text(text)
    found = frame_boxes(tmp_path, ["a_1#1", "a_1#0"])
    assert found.tolist() == [pytest.approx(boxes[1]), pytest.approx(boxes[0])]
