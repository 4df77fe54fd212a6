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
        for kernel, direction in zip(kernels, directions, strict=True):
            step = group["lr"] * RMS_SCALE * max(direction.shape) ** 0.5
            kernel.add_(direction.view(kernel.shape), alpha=-step)

    def _momentum(self, kernel: torch.Tensor) -> torch.Tensor:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            # AdamW, whose loader reads every state, expects a step count in each.
            state["step"] = torch.zeros(())
            state["momentum_buffer"] = torch.zeros_like(kernel)
        state["step"] += 1
        return state["momentum_buffer"]


def orthogonalize(matrices: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Bring each matrix's singular values near 1 (0.7 to 1.2), keeping its singular vectors.

    Every Newton-Schulz factor is a polynomial of the matrix's Gram matrix, so that the factors are
    multiplied on the small side and the matrix itself comes in once: a third of the work. Gram
    matrices of one size are multiplied together.
    """
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    wide = [matrix / (matrix.norm() + NORM_EPS) for matrix in wide]
    by_side: dict[int, list[int]] = {}
    for index, matrix in enumerate(wide):
        by_side.setdefault(len(matrix), []).append(index)
    for indices in by_side.values():
        polynomials = _newton_schulz(torch.stack([wide[i] @ wide[i].T for i in indices]))
        for index, polynomial in zip(indices, polynomials, strict=True):
            wide[index] = polynomial @ wide[index]
    pairs = zip(wide, matrices, strict=True)
    return [x.T if x.shape != matrix.shape else x for x, matrix in pairs]


def _newton_schulz(gram: torch.Tensor) -> torch.Tensor:
    """Return the factors' product for Gram matrices (B, n, n) of norm at most 1."""
    product = identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    a, b, c = COEFFICIENTS
    for _ in range(NUM_ITERATIONS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product
