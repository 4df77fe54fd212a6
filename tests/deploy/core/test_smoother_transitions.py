"""The gesture state machine, one row per transition.

A state is (the gesture that is on, what is wanted), letters of NAMES or "-" for none. Ten frames a
second; a change takes 0.2 s of the same wish, that is its third frame; `hold` every 0.5 s.
"""

import numpy as np
import pytest

from deploy.core.smoother import Phase, Smoother, SmootherRule

NAMES = "ABR"  # R is the idle class
RULE = SmootherRule(time_constant_s=0.0)  # no averaging: each frame's sight is its wish
SIGHTS = {
    "A": (0.9, 0.05, 0.05),
    "B": (0.05, 0.9, 0.05),
    "a": (0.5, 0.25, 0.25),  # between the thresholds: A may stay, not begin
    "R": (0.05, 0.05, 0.9),
    "?": (0.34, 0.33, 0.33),
}
LOSE = "!"
CODES = {Phase.BEGIN: "+", Phase.HOLD: "=", Phase.END: "-", Phase.LOST: "!"}


def play(text):
    """Feed one letter a frame; return what the last one changed and the state after it."""
    smoother, told = Smoother((2,), RULE), []
    for frame, letter in enumerate(text):
        if letter == LOSE:
            told = smoother.lose(1)
        else:
            told = smoother.update(1, np.array(SIGHTS[letter]), time_s=frame / 10)
    state = smoother._states.get(1)
    names = NAMES + "-"
    where = (
        "gone"
        if state is None
        else "".join(names[-1 if c is None else c] for c in (state.gesture, state.wanted))
    )
    return " ".join(CODES[change.phase] + NAMES[change.class_id] for change in told), where


@pytest.mark.parametrize(
    ("before", "state", "sight", "told", "after"),
    [
        ("", "gone", "?", "", "--"),
        ("", "gone", "R", "", "--"),
        ("", "gone", "A", "", "-A"),
        ("", "gone", LOSE, "", "gone"),
        ("?", "--", "?", "", "--"),
        ("?", "--", "a", "", "--"),
        ("?", "--", "R", "", "--"),
        ("?", "--", "A", "", "-A"),
        ("?", "--", LOSE, "", "gone"),
        ("A", "-A", "A", "", "-A"),
        ("AA", "-A", "A", "+A", "AA"),
        ("AA", "-A", "B", "", "-B"),
        ("AAB", "-B", "B", "", "-B"),
        ("AA", "-A", "?", "", "--"),
        ("AA", "-A", "a", "", "--"),
        ("AA", "-A", "R", "", "--"),
        ("AA", "-A", LOSE, "", "gone"),
        ("AAA", "AA", "A", "", "AA"),
        ("AAAAAAA", "AA", "A", "=A", "AA"),
        ("AAA", "AA", "a", "", "AA"),
        ("AAA", "AA", "?", "", "A-"),
        ("AAA", "AA", "R", "", "A-"),
        ("AAA", "AA", "B", "", "AB"),
        ("AAA", "AA", LOSE, "!A", "gone"),
        ("AAA?", "A-", "?", "", "A-"),
        ("AAA??", "A-", "?", "-A", "--"),
        ("AAA??", "A-", "R", "-A", "--"),
        ("AAA??", "A-", "A", "", "AA"),
        ("AAA??", "A-", "a", "", "AA"),
        ("AAA??", "A-", "B", "", "AB"),
        ("AAA??", "A-", LOSE, "!A", "gone"),
        ("AAAB", "AB", "B", "", "AB"),
        ("AAABB", "AB", "B", "-A +B", "BB"),
        ("AAABB", "AB", "A", "", "AA"),
        ("AAABB", "AB", "?", "", "A-"),
        ("AAABB", "AB", LOSE, "!A", "gone"),
        ("AAA!", "gone", "A", "", "-A"),
    ],
)
def test_each_transition(before, state, sight, told, after):
    assert play(before)[1] == state
    assert play(before + sight) == (told, after)
