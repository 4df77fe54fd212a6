"""The gesture classifier's optimizer descends and decays its kernels alone."""

import torch
from torch import nn

from stages.gesturenet.optimizer import build_optimizer, set_learning_rate


def test_steps_descend() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    images, targets = torch.randn(8, 3, 4, 4), torch.arange(8) % 2
    optimizer = build_optimizer(model, weight_decay=0.1)
    set_learning_rate(optimizer, 0.05)
    losses = []
    for _step in range(30):
        loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_weight_decay_shrinks_kernels_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = build_optimizer(model, weight_decay=0.2)
    set_learning_rate(optimizer, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kernel, *others = model.parameters()
    assert torch.allclose(kernel, before[0] * 0.9)
    assert all(torch.equal(one, old) for one, old in zip(others, before[1:], strict=True))
