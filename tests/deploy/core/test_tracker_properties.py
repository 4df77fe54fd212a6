"""Any hands: numbers are one hand's alone, whatever the order, the place and the clock."""

import numpy as np
import pytest

from deploy.core.tracker import Tracker
from tests.deploy.core.crossings import as_detections

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

# The same examples every time: a failure is one of the change that is tested.
PROPERTY = hypothesis.settings(deadline=None, max_examples=100, derandomize=True)


@st.composite
def clips(draw):
    """Boxes (N, 4) of each frame, in sixteenths of a pixel: hands that wander, vanish and return.

    So fine and random that no two overlaps are equal, and so coarse that float32 moves them
    exactly.
    """
    rng = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    num_hands = draw(st.integers(1, 5))
    seen_frac = draw(st.sampled_from((1.0, 0.8, 0.4)))
    step = draw(st.sampled_from((0.0, 8.0, 40.0)))
    centre = rng.uniform(100, 700, (num_hands, 2))
    velocity = rng.normal(0, step, (num_hands, 2))
    extent = rng.uniform(30, 200, (num_hands, 2))
    frames = []
    for _ in range(draw(st.integers(1, 25))):
        centre = centre + velocity + rng.normal(0, 2, centre.shape)
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
        seen = boxes[rng.uniform(size=num_hands) < seen_frac]
        frames.append(np.round(seen * 16) / 16)
    return frames


def follow(frames, *, step_s=1 / 30, start_s=0.0):
    """Return each frame's (track numbers, numbers lost)."""
    tracker = Tracker()
    updates = [
        tracker.update(as_detections(boxes), time_s=start_s + index * step_s)
        for index, boxes in enumerate(frames)
    ]
    return [(update.track_id.tolist(), update.lost) for update in updates]


@PROPERTY
@hypothesis.given(clips(), st.sampled_from((1 / 30, 0.1, 0.4)))
def test_number_is_one_hands_alone_and_not_used_after_it_is_lost(frames, step_s):
    lost, highest = set(), 0
    for track_id, lost_now in follow(frames, step_s=step_s):
        assert len(set(track_id)) == len(track_id)
        assert not lost & set(lost_now)
        lost |= set(lost_now)
        assert not lost & set(track_id)
        born = sorted(number for number in track_id if number > highest)
        assert born == list(range(highest + 1, highest + 1 + len(born)))
        highest += len(born)
    assert lost <= set(range(1, highest + 1))


@PROPERTY
@hypothesis.given(clips(), st.integers(0, 2**32 - 1))
def test_order_of_detections_changes_no_identity(frames, seed):
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(len(boxes)) for boxes in frames]
    shuffled = follow([boxes[order] for boxes, order in zip(frames, orders)])
    other_name = {}
    for (track_id, _), (other_id, _), order in zip(follow(frames), shuffled, orders):
        for place, number in zip(order, other_id):
            assert other_name.setdefault(track_id[place], number) == number
    assert len(set(other_name.values())) == len(other_name)


@PROPERTY
@hypothesis.given(clips(), st.integers(-2000, 2000), st.integers(-2000, 2000))
def test_moving_the_picture_changes_nothing(frames, x, y):
    assert follow([boxes + np.array([x, y, x, y]) for boxes in frames]) == follow(frames)


@PROPERTY
@hypothesis.given(clips(), st.sampled_from((0.25, 0.5, 2.0, 4.0)))
def test_size_of_the_picture_changes_nothing(frames, scale):
    assert follow([boxes * scale for boxes in frames]) == follow(frames)


@PROPERTY
@hypothesis.given(clips(), st.sampled_from((-64.0, 1024.0)))
def test_when_it_begins_changes_nothing(frames, start_s):
    step_s = 1 / 32  # sums of it are exact
    assert follow(frames, step_s=step_s, start_s=start_s) == follow(frames, step_s=step_s)
