"""Any probabilities at any times: what the smoother says of a track is always a whole story."""

import numpy as np
import pytest

from deploy.core.smoother import Phase, Smoother, SmootherRule

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

# The same examples every time: a failure is one of the change that is tested.
PROPERTY = hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
IDLE = (3,)
LOSE = "lose"


@st.composite
def rules(draw):
    """Any rule that is accepted; thresholds low enough for mixed probabilities to reach them."""
    enter = draw(st.floats(0.05, 1.0))
    return SmootherRule(
        enter_threshold=enter,
        exit_threshold=draw(st.floats(0.01, enter)),
        time_constant_s=draw(st.sampled_from((0.0, 0.05, 0.3))),
        min_hold_s=draw(st.sampled_from((0.0, 0.1, 0.25))),
        hold_interval_s=draw(st.sampled_from((0.0, 0.2, 0.5))),
    )


# One step: the track, how long after the last step, and what is seen (4 weights) or the loss.
SIGHTS = st.one_of(
    st.sampled_from([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (1, 1, 1, 1), (1, 1, 0, 0)]),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.just(LOSE),
)
STEPS = st.lists(
    st.tuples(st.sampled_from((1, 2)), st.sampled_from((0.0, 1 / 30, 0.1, 0.6)), SIGHTS),
    max_size=60,
)


def tell(rule, steps, cast=np.float64):
    """Run the steps; return (track, time, change) in order. cast: what is given for an array of
    probabilities."""
    smoother, told, time_s = Smoother(IDLE, rule), [], 0.0
    for track, passed_s, sight in steps:
        time_s += passed_s
        if sight == LOSE:
            changes = smoother.lose(track)
        else:
            weights = np.array(sight) + 1e-6
            changes = smoother.update(track, cast(weights / weights.sum()), time_s=time_s)
        told += [(track, time_s, change) for change in changes]
    return told


@PROPERTY
@hypothesis.given(rules(), STEPS)
def test_nothing_holds_or_ends_before_it_begins_and_nothing_begins_twice(rule, steps):
    in_gesture = {}
    for track, _, change in tell(rule, steps):
        if change.phase is Phase.BEGIN:
            assert track not in in_gesture
            in_gesture[track] = change.class_id
        elif change.phase is Phase.HOLD:
            assert in_gesture[track] == change.class_id
        else:
            assert in_gesture.pop(track) == change.class_id


@PROPERTY
@hypothesis.given(rules(), STEPS)
def test_idle_classes_are_never_told_and_confidence_is_a_probability(rule, steps):
    for _, _, change in tell(rule, steps):
        assert change.class_id not in IDLE
        assert 0 <= change.confidence <= 1 + 1e-9


@PROPERTY
@hypothesis.given(rules(), STEPS)
def test_float32_probabilities_are_averaged_in_float64(rule, steps):
    assert tell(rule, steps, np.float32) == tell(
        rule, steps, lambda seen: np.float64(np.float32(seen))
    )


@PROPERTY
@hypothesis.given(rules(), STEPS)
def test_gesture_lasts_at_least_the_hold_time_unless_it_is_lost(rule, steps):
    begun = {}
    for track, time_s, change in tell(rule, steps):
        if change.phase is Phase.BEGIN:
            begun[track] = time_s
        elif change.phase is Phase.END:
            assert time_s - begun[track] >= rule.min_hold_s - 1e-5


@PROPERTY
@hypothesis.given(rules(), STEPS)
def test_tracks_do_not_know_of_each_other(rule, steps):
    alone = [step for step in steps if step[0] == 1]
    # The times of the other track's steps pass all the same.
    waits, waited_s = [], 0.0
    for track, passed_s, sight in steps:
        waited_s += passed_s
        if track == 1:
            waits.append((1, waited_s, sight))
            waited_s = 0.0
    assert len(waits) == len(alone)
    both = [told for told in tell(rule, steps) if told[0] == 1]
    single = tell(rule, waits)
    assert [(change.phase, change.class_id) for _, _, change in both] == [
        (change.phase, change.class_id) for _, _, change in single
    ]
