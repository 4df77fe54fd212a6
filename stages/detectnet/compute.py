"""Where a training runs: Lightning Fabric, with device and precision chosen by the machine."""

import logging
from pathlib import Path
from typing import NamedTuple

import torch

from stages.detectnet.config import FitConfig

try:
    from lightning_fabric import Fabric
except ImportError:  # the package `lightning` carries the same code under another name
    from lightning.fabric import Fabric  # type: ignore[no-redef]

LOGGER = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")


class Precision(NamedTuple):
    """Lightning's word for a precision and why it was chosen."""

    name: str
    reason: str


def open_fabric(config: FitConfig) -> Fabric:
    """Start Fabric as configured, logging the precision and its reason.

    Works alone, under torchrun and under SLURM; several local devices start one process each.
    """
    precision = choose_precision(config.precision, config.accelerator)
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


def choose_precision(wanted: str, accelerator: str) -> Precision:
    """Turn "auto" into a precision: bfloat16 where the machine computes it natively.

    On a CPU without such instructions bfloat16 is several times slower than float32.
    """
    if wanted != "auto":
        return Precision(wanted, "as configured")
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16-mixed", "the GPU has bfloat16")
        return Precision("16-mixed", "the GPU has no bfloat16")
    flags = cpu_flags() if accelerator in ("auto", "cpu") else frozenset()
    native = [flag for flag in BF16_FLAGS if flag in flags]
    if native:
        return Precision("bf16-mixed", f"the CPU has {native[0]}")
    return Precision("32-true", "no native bfloat16 here")


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
