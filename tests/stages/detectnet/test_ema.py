"""Averaged weights by hand."""

import pytest
import torch
from torch import nn

from stages.detectnet.ema import WeightAverage


def set_weight(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_by_hand() -> None:
    """Decays (1 + n) / (10 + n): 2 / 11, 3 / 12, then the limit 0.26."""
    model = nn.Linear(1, 1, bias=False)
    set_weight(model, 0.0)
    average = WeightAverage(model, decay=0.26)
    expected = 0.0
    for value, decay in ((1.0, 2 / 11), (2.0, 3 / 12), (3.0, 0.26)):
        set_weight(model, value)
        average.update(model)
        expected = decay * expected + (1 - decay) * value
    average.copy_to(model)
    assert model.weight.item() == pytest.approx(expected)


def test_counters_and_new_entries() -> None:
    """Whole numbers are left alone; a buffer that appears later joins with its value."""
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    assert "num_batches_tracked" not in average.values
    model.register_buffer("late", torch.tensor([4.0]))
    average.update(model)
    assert average.values["late"].item() == 4.0


def test_state_round_trip() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    set_weight(model, 5.0)
    average.update(model)
    other = WeightAverage(model, decay=0.9)
    other.load_state_dict(average.state_dict())
    assert other.num_updates == 1
    assert torch.equal(other.values["weight"], average.values["weight"])
