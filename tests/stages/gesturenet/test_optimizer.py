import pytest
import torch
from torch import nn

from stages.gesturenet.optimizer import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8)])
def test_orthogonalized_matrix_keeps_directions_and_evens_out_strength(
    shape: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    values = torch.diagonal(u.T @ result @ vt.T)
    # The published coefficients bring singular values into [0.68, 1.2] on purpose, not to 1.
    assert values.min() > 0.3
    assert values.max() < 1.3
    assert torch.allclose(u.T @ result @ vt.T, torch.diag(values), atol=1e-3)


def test_zero_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_a_step_descends_and_only_kernels_decay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    images, targets = torch.randn(8, 3, 4, 4), torch.arange(8) % 2
    optimizer = Muon(model, learning_rate=0.05, weight_decay=0.1)
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
    optimizer = Muon(model, learning_rate=0.5, weight_decay=0.2)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kernel, *others = model.parameters()
    assert torch.allclose(kernel, before[0] * 0.9)
    assert all(torch.equal(one, old) for one, old in zip(others, before[1:], strict=True))
