"""Newton-Schulz against the singular value decomposition."""

import pytest
import torch

from stages.learning.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(4, 4), (3, 20), (20, 3), (1, 5)])
def test_orthogonalize_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    [result] = orthogonalize([matrix])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ result @ right.T
    assert (core - torch.diag(core.diagonal())).abs().max() < 1e-3
    assert core.diagonal().min() > 0.3
    assert core.diagonal().max() < 1.3


def test_zero_stays_zero() -> None:
    assert torch.equal(orthogonalize([torch.zeros(3, 5)])[0], torch.zeros(3, 5))


def test_matrices_do_not_mix() -> None:
    """Those with one small side are multiplied together, and give what each alone would."""
    generator = torch.Generator().manual_seed(3)
    matrices = [torch.randn(shape, generator=generator) for shape in ((3, 8), (5, 5), (9, 3))]
    together = orthogonalize(matrices)
    for matrix, result in zip(matrices, together, strict=True):
        torch.testing.assert_close(result, orthogonalize([matrix])[0])


def test_one_step_by_hand() -> None:
    """Without momentum the step is lr * 0.2 * sqrt(longer side) * direction, after the decay."""
    start = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(4))
    kernel = torch.nn.Parameter(start.clone())
    kernel.grad = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(5))
    group = {"params": [kernel], "momentum": 1e-9, "weight_decay": 0.5}
    Muon([group], lr=0.1).step()
    [direction] = orthogonalize([kernel.grad.flatten(1)])
    expected = start * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 18**0.5 * direction.view(4, 2, 3, 3)
    torch.testing.assert_close(kernel.detach(), expected)
