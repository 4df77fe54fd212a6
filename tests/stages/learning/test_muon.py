"""Newton-Schulz against the singular value decomposition."""

import pytest
import torch

from stages.learning.muon import orthogonalize


@pytest.mark.parametrize("shape", [(4, 4), (3, 20), (20, 3), (1, 5)])
def test_orthogonalize_keeps_singular_vectors(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    result = orthogonalize(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ result @ right.T
    assert (core - torch.diag(core.diagonal())).abs().max() < 1e-3
    assert core.diagonal().min() > 0.3
    assert core.diagonal().max() < 1.3


def test_zero_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))
