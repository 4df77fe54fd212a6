"""Events against what hands show, on made-up videos at 10 frames a second."""

import numpy as np
import pytest

from stages._event_accuracy import (
    Begin,
    LabelledHand,
    Tally,
    find_shown,
    read_begins,
    summarize_tallies,
    tally_video,
)

FPS = 10.0
HERE, THERE = np.array([10.0, 10.0, 50.0, 50.0]), np.array([200.0, 10.0, 240.0, 50.0])


def video(*rows: tuple[str, np.ndarray, int, int], length: int = 30) -> list[list[LabelledHand]]:
    """Hands by gesture, box, first and last frame; they drift a pixel a frame."""
    frames: list[list[LabelledHand]] = [[] for _ in range(length)]
    for gesture, box, first, last in rows:
        for number in range(first, last + 1):
            frames[number].append(LabelledHand(gesture, box + number))
    return frames


def begin(frame: int, gesture: str, box: np.ndarray = HERE) -> Begin:
    return Begin(frame, gesture, box + frame)


def test_frames_join_to_what_is_shown() -> None:
    frames = video(("ok", HERE, 2, 9), ("two", THERE, 0, 5), ("ok", HERE, 12, 20))
    shown = [(each.gesture, each.first, each.last) for each in find_shown(frames)]
    assert shown == [("two", 0, 5), ("ok", 2, 9), ("ok", 12, 20)]


def test_equal_gestures_of_two_hands_stay_apart_and_unclear_ones_do_not_count() -> None:
    frames = video(("ok", HERE, 0, 5), ("ok", THERE, 0, 5))
    frames[6] = [LabelledHand(None, HERE)]
    assert [each.last for each in find_shown(frames)] == [5, 5]


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        ([], Tally(1, 0, [], 0, 0)),
        ([begin(7, "ok")], Tally(1, 1, [0.3], 0, 0)),
        ([begin(15, "ok")], Tally(1, 1, [1.1], 0, 0)),
        ([begin(17, "ok")], Tally(1, 1, [], 0, 0)),
        ([begin(7, "two")], Tally(1, 1, [], 0, 0)),
        ([begin(7, "ok", THERE)], Tally(1, 1, [], 0, 0)),
        ([begin(7, "ok"), begin(12, "ok")], Tally(1, 2, [0.3], 0, 0)),
        ([begin(3, "ok")], Tally(1, 1, [], 0, 0)),
    ],
)
def test_one_right_event_per_gesture(begins: list[Begin], expected: Tally) -> None:
    found = tally_video(find_shown(video(("ok", HERE, 4, 14))), begins, fps=FPS)
    assert found._replace(delays_s=[]) == expected._replace(delays_s=[])
    assert found.delays_s == pytest.approx(expected.delays_s)


def test_a_short_gesture_may_begin_but_need_not() -> None:
    shown = find_shown(video(("ok", HERE, 4, 7)))
    assert tally_video(shown, [], fps=FPS) == Tally(0, 0, [], 0, 0)
    assert tally_video(shown, [begin(7, "ok")], fps=FPS).num_shown == 1


def test_hands_without_a_gesture_that_begin_one_are_alarms() -> None:
    shown = find_shown(video(("random", HERE, 0, 10), ("random", THERE, 0, 10)))
    found = tally_video(shown, [begin(5, "two"), begin(8, "ok")], fps=FPS)
    assert (found.num_idle, found.num_alarmed, found.num_begins) == (2, 1, 2)


def test_summary_adds_up_and_has_no_rate_without_a_base() -> None:
    summary = summarize_tallies([Tally(3, 2, [0.2, 0.4], 4, 1), Tally(1, 2, [0.6], 0, 0)])
    assert summary["precision"] == summary["recall"] == 0.75
    assert (summary["delay_p50_s"], summary["delay_max_s"]) == (0.4, 0.6)
    assert (summary["false_alarm_frac"], summary["num_videos"]) == (0.25, 2)
    nothing = summarize_tallies([])
    assert nothing["precision"] is nothing["delay_p50_s"] is nothing["false_alarm_frac"] is None


def test_begins_are_read_from_event_documents() -> None:
    documents = [
        {"phase": "begin", "frame": 4, "gesture": "ok", "box": [1, 2, 3, 4]},
        {"phase": "hold", "frame": 9, "gesture": "ok", "box": [1, 2, 3, 4]},
        {"phase": "lost", "frame": 11, "gesture": None, "box": None},
    ]
    (found,) = read_begins(documents)
    assert (found.frame, found.gesture, found.xyxy.tolist()) == (4, "ok", [1, 2, 3, 4])
