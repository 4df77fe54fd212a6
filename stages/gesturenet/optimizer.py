"""The optimizer of the gesture classifier: Muon for convolution kernels, AdamW for all else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight
matrix by the nearest orthogonal matrix, found by Newton-Schulz steps, so that all directions are
learned at one speed. The update's scale, 0.2 * sqrt(max(rows, columns)), matches AdamW's (Liu et
al. 2025, arXiv 2502.16982, section 2.2). torch.optim.Muon takes matrices only; here a kernel
(F, C, h, w) is a matrix (F, C * h * w).

Why: with 1,500 crops of 34 drawn videos and 15 epochs, unseen videos are classified 81 % right
instead of 60 % with AdamW at its best learning rate (same network, batches and crops).
"""

from typing import Any

import torch
from torch import nn

MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.95)
# AdamW's share of the learning rate.
ADAM_SCALE = 0.5
EPSILON = 1e-8
# Coefficients of the quintic iteration; five steps bring all singular values near 1.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NUM_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon for the parameters of groups with `is_kernel`, AdamW for those of the others.

    Weight decay is decoupled and acts on kernels only.
    """

    def __init__(self, model: nn.Module, *, learning_rate: float, weight_decay: float) -> None:
        parameters = list(model.parameters())
        groups: list[dict[str, Any]] = [
            {
                "params": [one for one in parameters if one.ndim == 4],
                "is_kernel": True,
                "weight_decay": weight_decay,
            },
            {"params": [one for one in parameters if one.ndim != 4], "is_kernel": False},
        ]
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; closure is not supported."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["is_kernel"]:
                    self._move_kernel(parameter, group)
                else:
                    self._move_other(parameter, group)

    def _move_kernel(self, kernel: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[kernel], kernel.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM)  # Nesterov
        matrix = ahead.flatten(1)  # (F, C * h * w)
        update = orthogonalize(matrix).view(kernel.shape)
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)

    def _move_other(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = (torch.zeros_like(parameter) for _ in range(2))
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - ADAM_BETAS[0])
        square = state["square"].lerp_(gradient.square(), 1 - ADAM_BETAS[1])
        bias = [1 - beta ** state["step"] for beta in ADAM_BETAS]
        scale = (square / bias[1]).sqrt_().add_(EPSILON)
        parameter.addcdiv_(mean / bias[0], scale, value=-group["lr"] * ADAM_SCALE)


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Return roughly U V^T of a matrix (M, N) = U S V^T: its singular values brought near 1.

    Each step multiplies by a polynomial of the Gram matrix, so the steps are taken on the Gram
    matrix's side and meet the (longer) matrix once. A zero matrix stays zero.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    first, third, fifth = NEWTON_SCHULZ
    gram = x @ x.T
    product = identity = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _step in range(NUM_STEPS):
        factor = first * identity + third * gram + fifth * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if is_tall else x
