"""Simulated hands that cross keep their numbers, where overlap alone swaps them."""

import numpy as np
import pytest

from deploy.core.tracker import Tracker
from tests.deploy.core.crossings import (
    FPS,
    OverlapTracker,
    as_detections,
    count_switches,
    simulate_crossing,
)


def crossing(seed, **options):
    return simulate_crossing(np.random.RandomState(seed), **options)


def test_one_crossing_by_hand():
    # Boxes 100 wide, 20 pixels a frame towards each other; the hand behind is hidden for 3 frames.
    frames = []
    for index in range(21):
        left, right = 100 + 20 * index, 500 - 20 * index
        boxes = np.array([[left, 100, left + 100, 200], [right, 110, right + 100, 210]])
        hands = [1] if abs(left - right) <= 40 else [0, 1]
        frames.append((hands, boxes[hands]))
    assert count_switches(OverlapTracker(), frames) > 0
    assert count_switches(Tracker(), frames) == 0


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 4), ({"dropped": 0.3}, 4), ({"hidden_iou": 0.2}, 4), ({"fps": 15.0}, 6)],
    ids=["as they come", "three of ten dropped", "hidden early", "15 frames/s"],
)
def test_few_of_a_hundred_crossings_swap_numbers(options, most):
    fps = options.get("fps", FPS)
    frames = [crossing(seed, **options) for seed in range(100)]
    old = sum(count_switches(OverlapTracker(), one, fps=fps) > 0 for one in frames)
    new = sum(count_switches(Tracker(), one, fps=fps) > 0 for one in frames)
    assert new <= most
    assert old >= 4 * new + 10


def test_hand_hidden_in_a_crossing_is_not_lost():
    rng = np.random.RandomState(1)
    tracker = Tracker()
    lost = []
    for index, (_, boxes) in enumerate(simulate_crossing(rng, hidden_iou=0.2)):
        lost += tracker.update(as_detections(boxes), time_s=index / FPS).lost
    assert lost == []
