"""Where a training runs: Lightning Fabric, with device and precision chosen by the machine."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from stages.detectnet.config import FitConfig

try:
    from lightning_fabric import Fabric
except ImportError:  # the package `lightning` carries the same code under another name
    from lightning.fabric import Fabric  # type: ignore[no-redef]

LOGGER = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
# PyTorch 2.13 on a CPU: the bfloat16 backward pass of a 1x1 stride-2 convolution of 8 channels in
# channels_last writes beyond its memory (free(): invalid next size). Sixteen channels are safe.
BF16_MIN_CPU_CHANNELS = 16


class Precision(NamedTuple):
    """Lightning's word for a precision and why it was chosen."""

    name: str
    reason: str


def open_fabric(config: FitConfig, model: nn.Module) -> Fabric:
    """Start Fabric as configured for training the model, logging the precision and its reason.

    Works alone, under torchrun and under SLURM; several local devices start one process each.
    """
    precision = choose_precision(
        config.precision, config.accelerator, min_channels=min_input_channels(model)
    )
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=_device_count(config),
        num_nodes=config.num_nodes,
        precision=precision.name,  # type: ignore[arg-type]
    )
    fabric.launch()
    if fabric.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if fabric.is_global_zero:
        LOGGER.info(
            "training on %d x %s, %s: %s",
            fabric.world_size,
            fabric.device.type,
            precision.name,
            precision.reason,
        )
    return fabric


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
    if native and min_channels < BF16_MIN_CPU_CHANNELS:
        return Precision("32-true", f"a convolution reads {min_channels} channels only")
    if native:
        return Precision("bf16-mixed", f"the CPU has {native[0]}")
    return Precision("32-true", "no native bfloat16 here")


def min_input_channels(model: nn.Module) -> int:
    """Return the fewest channels that a convolution behind the first reads."""
    widths = [m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    return min(widths[1:], default=BF16_MIN_CPU_CHANNELS)


def cpu_flags(path: Path = CPU_INFO) -> frozenset[str]:
    """Read the CPU's feature flags; empty where the system does not list them (not Linux, ARM)."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _device_count(config: FitConfig) -> int | str:
    """A CPU is one device unless a number says otherwise: one process with many threads."""
    return int(config.devices) if config.devices.lstrip("-").isdigit() else config.devices
