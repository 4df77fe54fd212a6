"""Ranges of quantizers that are learnt while the quantized network trains, as NVIDIA does.

An activation's range is the exponential moving average of each training step's largest absolute
value, without the pull of its start: TensorFlow's assign_moving_average divides by 1 - decay**t
after step t, so that the first step sets the range. A kernel's range is its own largest absolute
value, always.
Source: NVIDIA TAO 5, nvidia_tao_tf1 core/models/templates/qdq_layer.py and quantized_conv2d.py.
Deviation: NVIDIA's step of a kernel is max(-least / 128, largest / 127); here it is the largest
absolute value / 127, which stays within the 8 bits when a negative batch normalisation is folded.
"""

import functools
import math
from typing import Any

import torch

STEPS = "moving_steps"


def follow_values(quantizer: Any, *, decay: float) -> None:
    """Let an activation's quantizer average its range over training steps; in place.

    The number of steps is a buffer, so that it is part of checkpoints. decay: [0, 1).
    """
    quantizer.register_buffer(STEPS, torch.zeros((), dtype=torch.int64))
    quantizer.register_forward_pre_hook(functools.partial(_average, decay=decay))


def follow_kernel(quantizer: Any) -> None:
    """Let a kernel's quantizer take its range from the kernel at every use; in place."""
    quantizer.register_forward_pre_hook(_measure)


def is_following_kernel(quantizer: Any) -> bool:
    """Tell whether follow_kernel was called: the range is then the kernel's at its last use."""
    return _measure in quantizer._forward_pre_hooks.values()


@torch.no_grad()
def largest_value(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Reduce values to their largest absolute value, in the shape of `like`.

    like: as many axes as values, where 1 is reduced and others stay; or a single number.
    """
    if like.numel() == 1:
        return values.abs().amax().float().reshape(like.shape)
    axes = [axis for axis, size in enumerate(like.shape) if size == 1]
    return values.abs().amax(dim=axes, keepdim=True).float()


def _average(quantizer: Any, inputs: tuple[torch.Tensor], *, decay: float) -> None:
    if not quantizer.training:
        return
    steps = quantizer.get_buffer(STEPS)
    steps += 1
    # (1 - decay) / (1 - decay**steps), exactly 1 at the first step.
    weight = (1.0 - decay) / -torch.expm1(steps * math.log(decay)) if decay > 0.0 else 1.0
    largest = largest_value(inputs[0].detach(), quantizer.amax)
    quantizer.amax = quantizer.amax + weight * (largest - quantizer.amax)


def _measure(quantizer: Any, inputs: tuple[torch.Tensor]) -> None:
    quantizer.amax = largest_value(inputs[0].detach(), quantizer.amax)
