"""Muon: momentum whose matrix is orthogonalised, for kernels; AdamW for everything else.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024
(https://kellerjordan.github.io/posts/muon), Newton-Schulz coefficients included; the scale that
lets it share AdamW's learning rate is from Liu et al., Muon is scalable for LLM training, 2025. A
convolution's kernel (O, I, K, K) is the matrix (O, I * K * K).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5
NORM_EPS = 1.0e-7
RMS_SCALE = 0.2


class Muon(torch.optim.AdamW):
    """AdamW whose groups with "momentum" > 0 are updated by Muon instead."""

    def __init__(self, groups: Iterable[dict[str, Any]], **adamw: Any) -> None:
        super().__init__([{"momentum": 0.0, **group} for group in groups], **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        groups = self.param_groups
        for group in groups:
            if group["momentum"] > 0.0:
                self._step_matrices(group)
        self.param_groups = [group for group in groups if group["momentum"] == 0.0]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Update one group's kernels together: one launch for all, where the GPU waits for it."""
        kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
        if not kernels:
            return
        gradients = [kernel.grad for kernel in kernels]
        momenta = [self._momentum(kernel) for kernel in kernels]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
        directions = orthogonalize([update.flatten(1) for update in updates])
        torch._foreach_mul_(kernels, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_mul_(directions, [-group["lr"] * _step_size(d) for d in directions])
        pairs = zip(directions, kernels, strict=True)
        torch._foreach_add_(kernels, [direction.view(kernel.shape) for direction, kernel in pairs])

    def _momentum(self, kernel: torch.Tensor) -> torch.Tensor:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            # AdamW, whose loader reads every state, expects a step count in each.
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(kernel)
        state["step"] += 1
        return state["momentum_buffer"]


def _step_size(matrix: torch.Tensor) -> float:
    """Return what makes an update's root mean square that of AdamW's, for a learning rate of 1."""
    size: float = RMS_SCALE * max(matrix.shape) ** 0.5
    return size


def orthogonalize(matrices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Bring each matrix's singular values near 1 (0.7 to 1.2), keeping its singular vectors.

    Every Newton-Schulz factor is a polynomial of the matrix's Gram matrix, so that the factors are
    multiplied on the small side and the matrix itself comes in once: a third of the work. Gram
    matrices of one size are multiplied together, and their traces are the squared norms.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    by_side: dict[int, list[int]] = {}
    for index, matrix in enumerate(wide):
        by_side.setdefault(len(matrix), []).append(index)
    for indices in by_side.values():
        gram = torch.stack([wide[i] @ wide[i].T for i in indices])  # (B, n, n)
        trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
        norm = trace.clamp_min(0.0).sqrt() + NORM_EPS
        polynomials = _newton_schulz(gram / norm**2) / norm
        for index, polynomial in zip(indices, polynomials, strict=True):
            wide[index] = polynomial @ wide[index]
    pairs = zip(wide, matrices, strict=True)
    return [x.T if x.shape != matrix.shape else x for x, matrix in pairs]


def _newton_schulz(gram: torch.Tensor) -> torch.Tensor:
    """Return the factors' product for Gram matrices (B, n, n) of norm at most 1."""
    a, b, c = COEFFICIENTS
    product: torch.Tensor | None = None
    for step in range(NUM_ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step + 1 < NUM_ITERATIONS:
            gram = factor @ gram @ factor
    assert product is not None
    return product
