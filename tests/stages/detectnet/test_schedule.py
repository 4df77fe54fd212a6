"""Learning rates by hand."""

import math

import pytest

from stages.detectnet.config import ScheduleConfig
from stages.detectnet.schedule import learning_rate_at

NVIDIA = ScheduleConfig("soft_start_annealing", 0.1, 0.7, 5e-6)
CYCLE = ScheduleConfig("one_cycle", 0.25, 0.7, 1e-5)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 5e-6),
        (0.05, math.sqrt(5e-6 * 5e-4)),  # half way in logarithms
        (0.1, 5e-4),
        (0.5, 5e-4),
        (0.7, 5e-4),
        (0.85, math.sqrt(5e-6 * 5e-4)),
        (1.0, 5e-6),
    ],
)
def test_soft_start_annealing(progress: float, expected: float) -> None:
    assert learning_rate_at(progress, maximum=5e-4, config=NVIDIA) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 1e-5), (0.125, 0.5e-2 + 0.5e-5), (0.25, 1e-2), (0.625, 0.5e-2 + 0.5e-5), (1.0, 1e-5)],
)
def test_one_cycle(progress: float, expected: float) -> None:
    assert learning_rate_at(progress, maximum=1e-2, config=CYCLE) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["soft_start_annealing", "one_cycle"])
def test_no_soft_start_begins_at_the_maximum(name: str) -> None:
    config = ScheduleConfig(name, 0.0, 0.7, 1e-5)
    assert learning_rate_at(0.0, maximum=1e-2, config=config) == pytest.approx(1e-2)
