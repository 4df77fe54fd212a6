"""Optimiser steps against the published formulas."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stages.detectnet.config import OptimizerConfig
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.optimizer import build_optimizer, prepare_step


def test_adam_equals_tensorflow_1() -> None:
    """Epsilon outside the bias correction; large here, so that the difference would show."""
    config = OptimizerConfig(name="adam", epsilon=1e-2)
    layer = nn.Linear(3, 1, bias=False)
    expected = layer.weight.detach().numpy().astype(np.float64).copy()
    optimizer = build_optimizer(layer, config)
    first = second = np.zeros_like(expected)
    for step, scale in enumerate((1.0, -0.5, 0.1, 2.0)):
        gradient = scale * np.array([[0.01, -1.0, 3.0]])
        layer.weight.grad = torch.tensor(gradient, dtype=torch.float32)
        prepare_step(optimizer, config, step=step, learning_rate=0.1)
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        expected = expected - rate * first / (np.sqrt(second) + 1e-2)
    assert layer.weight.detach().numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decay_shrinks_kernels_alone(name: str) -> None:
    architecture = build_architecture(10, width=8, input_wh=[32, 32])
    model = DetectNet(architecture)
    config = OptimizerConfig(name=name, weight_decay=0.5)
    optimizer = build_optimizer(model, config)
    before = {key: value.clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    prepare_step(optimizer, config, step=0, learning_rate=0.1)
    optimizer.step()
    for key, value in model.named_parameters():
        is_decayed = value.ndim > 1 and (name == "adamw" or not key.startswith("output_"))
        torch.testing.assert_close(value.data, before[key] * (0.95 if is_decayed else 1.0))


def test_muon_moves_matrices_by_an_orthogonal_step() -> None:
    config = OptimizerConfig(name="muon", weight_decay=0.0)
    layer = nn.Linear(8, 4, bias=False)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(layer, config)
    layer.weight.grad = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    prepare_step(optimizer, config, step=0, learning_rate=0.1)
    optimizer.step()
    moved = torch.linalg.svdvals(before - layer.weight.detach()) / (0.1 * 0.2 * 8**0.5)
    assert moved.min() > 0.6
    assert moved.max() < 1.3


def test_state_survives_a_reload() -> None:
    """A resumed optimiser makes the very same step."""
    config = OptimizerConfig(name="muon")
    layers = [nn.Linear(8, 4), nn.Linear(8, 4)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [build_optimizer(layer, config) for layer in layers]

    def step(index: int, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        for parameter in layers[index].parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        prepare_step(optimizers[index], config, step=number, learning_rate=0.1)
        optimizers[index].step()

    step(0, 0)
    step(1, 0)
    optimizers[1] = build_optimizer(layers[1], config)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    step(0, 1)
    step(1, 1)
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert torch.equal(layers[0].bias, layers[1].bias)
