"""The gesture state machine, by tables of frames with their expected changes."""

import numpy as np
import pytest

from deploy.core.smoother import Change, Phase, Smoother, SmootherRule

NAMES = "ABR"  # R is the idle class
IDLE = (2,)
FAST = SmootherRule(time_constant_s=0.0)
CODES = {Phase.BEGIN: "+", Phase.HOLD: "=", Phase.END: "-", Phase.LOST: "!"}


def one_hot(letter, certainty=1.0):
    """Probabilities of a letter; '?' is uniform."""
    if letter == "?":
        return np.full(3, 1 / 3)
    rest = (1 - certainty) / 2
    return np.array([certainty if name == letter else rest for name in NAMES])


def run(text, rule=FAST, rate=10.0, certainty=1.0):
    """Feed one letter a frame, '.' for an unseen hand; return each change as frame:code+letter."""
    smoother = Smoother(IDLE, rule)
    seen = []
    for frame, letter in enumerate(text):
        if letter != ".":
            changes = smoother.update(7, one_hot(letter, certainty), time_s=frame / rate)
            seen += [f"{frame}:{CODES[c.phase]}{NAMES[c.class_id]}" for c in changes]
    return " ".join(seen)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("A", ""),
        ("AA", ""),
        ("AAA", "2:+A"),
        ("?A?A?A?A", ""),
        ("ABABABAB", ""),
        ("RRRRRRRR", ""),
        ("AAAAAAAAA", "2:+A 7:=A"),
        ("AAAA?AAAA", "2:+A 7:=A"),
        ("AAAABAAAA", "2:+A 7:=A"),
        ("AAAA???", "2:+A 6:-A"),
        ("AAAARRR", "2:+A 6:-A"),
        ("AAAABBB", "2:+A 6:-A 6:+B"),
        ("AAAA?BBBB", "2:+A 7:-A 7:+B"),
        ("A.A.A", "2:+A"),
        ("A..A", "3:+A"),
        ("AAA...A..A", "2:+A 9:=A"),
    ],
)
def test_changes_by_table(text, expected):
    # Ten frames a second, min_hold 0.2 s = the third frame of the same wish, hold every 0.5 s;
    # no averaging, so that each letter is that frame's wish.
    assert run(text) == expected


@pytest.mark.parametrize("rate", [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0])
@pytest.mark.parametrize("rule", [SmootherRule(), FAST], ids=["averaged", "not averaged"])
@pytest.mark.parametrize("other", "BR?")
def test_one_frame_of_something_else_changes_nothing_at_any_rate(rate, rule, other):
    quiet = SmootherRule(*rule[:-1], hold_interval_s=1e9)
    settled = "A" * int(3 * rate + 3)
    assert run(f"{settled}{other}{settled}", quiet, rate).count("+") == 1
    assert "-" not in run(f"{settled}{other}{settled}", quiet, rate)
    assert run("R" * 90 + "A" + "R" * 90, quiet, rate) == ""


@pytest.mark.parametrize("rate", [5.0, 10.0, 30.0, 60.0])
def test_gesture_begins_at_min_hold_whatever_the_rate(rate):
    begin = run("A" * 120, SmootherRule(), rate).split()[0]
    frame = int(begin.split(":")[0])
    assert frame / rate == pytest.approx(0.2, abs=1e-9)


def test_between_the_thresholds_a_gesture_stays_but_none_begins():
    rule = FAST._replace(hold_interval_s=1e9)
    smoother = Smoother(IDLE, rule)
    level = {frame: 0.9 if frame < 5 else 0.5 for frame in range(20)}
    phases = [
        change.phase
        for frame in range(20)
        for change in smoother.update(1, one_hot("A", level[frame]), time_s=frame / 10)
    ]
    assert phases == [Phase.BEGIN]
    assert run("A" * 20, rule, certainty=0.5) == ""


def test_no_hold_time_still_needs_two_frames():
    rule = FAST._replace(min_hold_s=0.0)
    assert run("A?A?", rule) == ""
    assert run("AA??", rule) == "1:+A 3:-A"


def test_every_begin_is_closed_exactly_once():
    rng = np.random.RandomState(3)
    smoother = Smoother(IDLE, SmootherRule(time_constant_s=0.02, min_hold_s=0.05))
    open_gesture, closed = {}, 0
    for frame in range(3000):
        time_s = frame / 30
        for track in (1, 2):
            letter = NAMES[(frame // rng.randint(3, 12)) % 3]
            changes = smoother.update(track, one_hot(letter), time_s=time_s)
            if rng.rand() < 0.02:
                changes += smoother.lose(track)
            for change in changes:
                if change.phase is Phase.BEGIN:
                    assert track not in open_gesture
                    open_gesture[track] = change.class_id
                elif change.phase is Phase.HOLD:
                    assert open_gesture[track] == change.class_id
                else:
                    assert open_gesture.pop(track) == change.class_id
                    closed += 1
    assert closed > 100


def test_confidence_is_the_average_and_idle_never_begins():
    smoother = Smoother(IDLE, FAST)
    for frame in range(3):
        changes = smoother.update(1, one_hot("B", 0.8), time_s=frame / 10)
    assert changes == [Change(Phase.BEGIN, 1, pytest.approx(0.8))]
    assert smoother.current(1) == Change(Phase.HOLD, 1, pytest.approx(0.8))


def test_losing_a_track_in_a_gesture_says_so_once():
    smoother = Smoother(IDLE, FAST)
    for frame in range(3):
        smoother.update(1, one_hot("A"), time_s=frame / 10)
        smoother.update(2, one_hot("R"), time_s=frame / 10)
    assert [change.phase for change in smoother.lose(1)] == [Phase.LOST]
    assert smoother.lose(1) == []
    assert smoother.lose(2) == []
    assert smoother.lose(99) == []
    assert smoother.current(1) is None


def test_average_depends_on_seconds_and_not_on_frames():
    rule = SmootherRule(time_constant_s=0.1)
    averages = []
    for steps in (1, 4):
        smoother = Smoother(IDLE, rule)
        smoother.update(1, one_hot("R"), time_s=0.0)
        for step in range(steps):
            smoother.update(1, one_hot("A"), time_s=0.2 * (step + 1) / steps)
        averages.append(smoother._states[1].average)
    np.testing.assert_allclose(averages[0], averages[1], atol=1e-12)
    np.testing.assert_allclose(averages[0][0], 1 - np.exp(-2), atol=1e-12)


def test_input_is_not_changed():
    smoother = Smoother(IDLE)
    first = one_hot("A")
    smoother.update(1, first, time_s=0.0)
    smoother.update(1, one_hot("B"), time_s=0.1)
    np.testing.assert_array_equal(first, one_hot("A"))


def test_time_that_runs_backwards_is_refused():
    smoother = Smoother(IDLE)
    smoother.update(1, one_hot("A"), time_s=1.0)
    with pytest.raises(ValueError, match="time order"):
        smoother.update(1, one_hot("A"), time_s=0.9)


@pytest.mark.parametrize(
    "rule",
    [
        SmootherRule(enter_threshold=0.3),
        SmootherRule(enter_threshold=1.1),
        SmootherRule(exit_threshold=0.0),
        SmootherRule(min_hold_s=-1.0),
        SmootherRule(time_constant_s=float("nan")),
        SmootherRule(hold_interval_s=float("nan")),
    ],
)
def test_senseless_rule_is_refused(rule):
    with pytest.raises(ValueError, match="expected"):
        Smoother((), rule)
