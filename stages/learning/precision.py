"""The precision a training computes in: bfloat16 where the machine does so natively."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
# PyTorch 2.13 on a CPU: the backward pass of a 1x1 stride-2 convolution of fewer than 16 channels
# in channels_last writes beyond its memory (double free, segmentation fault): in bfloat16 with any
# number of threads, in float32 with 3 or 5, say. Sixteen channels are safe.
MIN_CPU_CHANNELS = 16


class Precision(NamedTuple):
    """Lightning's word for a precision and why it was chosen."""

    name: str
    reason: str


def choose_precision(wanted: str, accelerator: str, *, min_channels: int) -> Precision:
    """Turn "auto" into a precision: bfloat16 where the machine computes it natively.

    On a CPU without such instructions bfloat16 is several times slower than float32.
    min_channels: the fewest that a convolution reads; below 16 a CPU stays at float32.
    """
    if wanted != "auto":
        return Precision(wanted, "as configured")
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16-mixed", "the GPU has bfloat16")
        return Precision("16-mixed", "the GPU has no bfloat16")
    flags = cpu_flags() if accelerator in ("auto", "cpu") else frozenset()
    native = [flag for flag in BF16_FLAGS if flag in flags]
    if native and min_channels < MIN_CPU_CHANNELS:
        return Precision("32-true", f"a convolution reads {min_channels} channels only")
    if native:
        return Precision("bf16-mixed", f"the CPU has {native[0]}")
    return Precision("32-true", "no native bfloat16 here")


def choose_memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Return channels_last, the faster one, or the plain order where that is not safe."""
    if device.type == "cpu" and min_input_channels(model) < MIN_CPU_CHANNELS:
        return torch.contiguous_format
    return torch.channels_last


def min_input_channels(model: nn.Module) -> int:
    """Return the fewest channels that a convolution behind the first reads."""
    widths = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    return min(widths[1:], default=MIN_CPU_CHANNELS)


def cpu_flags(path: Path = CPU_INFO) -> frozenset[str]:
    """Read the CPU's feature flags; empty where the system does not list them (not Linux, ARM)."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
