"""Muon: momentum whose matrix is orthogonalised, for kernels; AdamW for everything else.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024
(https://kellerjordan.github.io/posts/muon), Newton-Schulz coefficients included; the scale that
lets it share AdamW's learning rate is from Liu et al., Muon is scalable for LLM training, 2025. A
convolution's kernel (O, I, K, K) is the matrix (O, I * K * K).
"""

from collections.abc import Callable, Iterable
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
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                # AdamW, whose loader reads every state, expects a step count in each.
                state["step"] = torch.zeros(())
                state["momentum_buffer"] = torch.zeros_like(parameter)
            state["step"] += 1
            momentum = state["momentum_buffer"].lerp_(parameter.grad, 1.0 - group["momentum"])
            update = parameter.grad.lerp(momentum, group["momentum"])  # Nesterov
            matrix = update.flatten(1)
            scale = RMS_SCALE * max(matrix.shape) ** 0.5
            direction = orthogonalize(matrix).view(parameter.shape)
            parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            parameter.add_(direction, alpha=-group["lr"] * scale)


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of a matrix near 1 (0.7 to 1.2), keeping its singular vectors.

    Every Newton-Schulz factor is a polynomial of the matrix's Gram matrix, so that the factors are
    multiplied on the small side and the matrix itself comes in once: a third of the work.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + NORM_EPS)
    gram = x @ x.T
    product = identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    a, b, c = COEFFICIENTS
    for _ in range(NUM_ITERATIONS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if is_tall else x
