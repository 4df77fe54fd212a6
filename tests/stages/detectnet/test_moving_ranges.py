"""Ranges that training learns, by hand; a stand-in for modelopt's quantizer saves its import."""

import copy

import pytest
import torch
from torch import nn

from stages.detectnet.moving_ranges import (
    follow_kernel,
    follow_values,
    is_following_kernel,
    largest_value,
)


class Quantizer(nn.Module):
    """What the rules need of a quantizer: a range, and a call with the values."""

    def __init__(self, amax: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("amax", amax)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def learn(decay: float, *batches: list[float]) -> Quantizer:
    quantizer = Quantizer(torch.tensor(6.0)).train()
    follow_values(quantizer, decay=decay)
    for values in batches:
        quantizer(torch.tensor(values))
    return quantizer


@pytest.mark.parametrize(
    ("decay", "batches", "expected"),
    [
        # Biased average from 0, over 1 - decay**t. Largest values 2: 0.001 * 2 / 0.001.
        (0.999, [[1.0, -2.0]], 2.0),
        # 2, 4: (0.999 * 0.001 * 2 + 0.001 * 4) / (1 - 0.998001) = 0.005998 / 0.001999.
        (0.999, [[-2.0], [4.0]], 3.000500),
        # 2, 4, 1: 0.2, 0.58, 0.622; the last over 1 - 0.729.
        (0.9, [[2.0], [4.0], [1.0]], 2.295203),
        (0.0, [[2.0], [4.0], [1.0]], 1.0),
    ],
)
def test_range_is_the_average_without_the_pull_of_its_start(decay, batches, expected):
    assert learn(decay, *batches).amax.item() == pytest.approx(expected, rel=1e-6)


def test_evaluation_leaves_the_range():
    quantizer = learn(0.9, [2.0]).eval()
    quantizer(torch.tensor([9.0]))
    assert quantizer.amax.item() == 2.0


def test_a_reloaded_state_goes_on():
    first = learn(0.9, [2.0], [4.0])
    second = learn(0.9)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for quantizer in (first, second):
        quantizer(torch.tensor([1.0]))
    assert first.amax.item() == second.amax.item()


def test_kernel_ranges_follow_the_kernel_in_training_and_evaluation():
    kernel = torch.tensor([1.0, -3.0, 0.5, 2.0]).view(2, 2, 1, 1)
    per_channel, whole = Quantizer(torch.ones(2, 1, 1, 1)), Quantizer(torch.tensor(1.0))
    for quantizer in (per_channel, whole):
        follow_kernel(quantizer)
        quantizer(kernel)
        assert is_following_kernel(quantizer)
    assert per_channel.amax.flatten().tolist() == [3.0, 2.0]
    assert whole.amax.item() == 3.0
    whole.eval()(2.0 * kernel)
    assert whole.amax.item() == 6.0
    assert not is_following_kernel(learn(0.9))


def test_largest_value_keeps_the_shape_of_the_range():
    values = torch.tensor([[1.0, -5.0], [2.0, 0.0]])
    assert largest_value(values, torch.zeros(2, 1)).tolist() == [[5.0], [2.0]]
    assert largest_value(values, torch.zeros(1)).tolist() == [5.0]
    assert largest_value(values, torch.zeros(())).item() == 5.0
