"""Tables of frames: which detection belongs to which track, and when a track is lost."""

import numpy as np
import pytest

from deploy.core.boxes import Detections
from deploy.core.tracker import Tracker, TrackerRule

A = (100, 100, 200, 200)
A_MOVED = (130, 100, 230, 200)  # IoU with A: 70 / 130
FAR = (600, 300, 700, 400)


def detections(*boxes, class_id=0):
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.ones(len(boxes), np.float32), np.full(len(boxes), class_id))


def run(frames, rule=TrackerRule(), step_s=0.1):  # noqa: B008 (immutable)
    tracker = Tracker(rule)
    results = []
    for index, boxes in enumerate(frames):
        update = tracker.update(detections(*boxes), time_s=index * step_s)
        results.append((update.track_id.tolist(), update.lost))
    return results


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([], []),
        ([[], []], [([], []), ([], [])]),
        ([[A], [A_MOVED]], [([1], []), ([1], [])]),
        ([[A, FAR], [FAR, A_MOVED]], [([1, 2], []), ([2, 1], [])]),
        ([[A], [FAR]], [([1], []), ([2], [])]),
        ([[A], [A, A_MOVED]], [([1], []), ([1, 2], [])]),
        ([[A], [A_MOVED, A]], [([1], []), ([2, 1], [])]),
        ([[A], [], [A]], [([1], []), ([], []), ([1], [])]),
    ],
    ids=["nothing", "empty", "moves", "two", "jumps", "splits", "best-overlap", "gap"],
)
def test_tracks_by_table(frames, expected):
    assert run(frames) == expected


def test_track_is_lost_after_the_gap_and_its_number_is_not_used_again():
    rule = TrackerRule(max_gap_s=0.2)
    results = run([[A], [], [], [], [A]], rule)
    assert results == [([1], []), ([], []), ([], []), ([], [1]), ([2], [])]


def test_gap_is_measured_in_seconds_not_frames():
    rule = TrackerRule(max_gap_s=0.2)
    assert run([[A], [], [], [A]], rule, step_s=0.06)[-1] == ([1], [])
    assert run([[A], [A]], rule, step_s=0.3)[-1] == ([2], [1])


def test_overlap_at_the_threshold_joins_and_below_does_not():
    half = (100, 100, 200, 150)  # IoU with A: 0.5
    assert run([[A], [half]], TrackerRule(iou_threshold=0.5))[-1] == ([1], [])
    assert run([[A], [half]], TrackerRule(iou_threshold=0.51))[-1] == ([2], [])


def test_equal_overlap_goes_to_the_older_track_and_the_earlier_detection():
    assert run([[A, A], [A, A]]) == [([1, 2], []), ([1, 2], [])]


def test_box_with_nan_is_a_hand_of_its_own_and_takes_no_track_from_another():
    unknown = (100, 100, float("nan"), 200)
    results = run([[A], [unknown, A_MOVED], [A, unknown]])
    assert [track_id for track_id, _ in results] == [[1], [2, 1], [1, 3]]


def test_another_class_is_another_track():
    tracker = Tracker()
    tracker.update(detections(A), time_s=0)
    assert tracker.update(detections(A, class_id=1), time_s=0.1).track_id.tolist() == [2]


def test_flush_ends_all_tracks_once():
    tracker = Tracker()
    tracker.update(detections(A, FAR), time_s=0)
    assert tracker.flush() == [1, 2]
    assert tracker.flush() == []


def test_time_that_runs_backwards_is_refused():
    tracker = Tracker()
    tracker.update(detections(A), time_s=1)
    with pytest.raises(ValueError, match="time order"):
        tracker.update(detections(A), time_s=0.5)


def test_tracker_keeps_no_view_of_the_detections():
    tracker = Tracker()
    first = detections(A)
    tracker.update(first, time_s=0)
    first.xyxy[:] = FAR
    assert tracker.update(detections(A), time_s=0.1).track_id.tolist() == [1]


def test_steady_hands_keep_their_numbers_in_any_order():
    rng = np.random.RandomState(0)
    tracker = Tracker()
    starts = np.array([[50, 50], [400, 60], [200, 420], [700, 500]], np.float32)
    velocity = rng.uniform(-4, 4, (4, 2))
    names = {}
    for frame in range(60):
        order = rng.permutation(4)
        corner = starts + frame * velocity + rng.normal(0, 1, (4, 2))
        xyxy = np.concatenate([corner, corner + 80], axis=1)[order]
        found = tracker.update(detections(*xyxy), time_s=frame / 30).track_id
        for hand, track in zip(order, found):
            assert names.setdefault(hand, track) == track
    assert sorted(names.values()) == [1, 2, 3, 4]
