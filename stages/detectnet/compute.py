"""Where a training runs: Lightning Fabric, with device and precision chosen by the machine."""

import logging
import os

import torch
from torch import nn

from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from stages.learning.precision import Precision, choose_precision, min_input_channels

try:
    from lightning_fabric import Fabric
except ImportError:  # the package `lightning` carries the same code under another name
    from lightning.fabric import Fabric  # type: ignore[no-redef]

LOGGER = logging.getLogger(__name__)


def choose_device(accelerator: str = "auto") -> torch.device:
    """Choose where a network runs outside of training: this process's GPU, or the CPU."""
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def open_fabric(config: FitConfig, model: nn.Module) -> Fabric:
    """Start Fabric as configured for training the model, logging the precision and its reason.

    Works alone, under torchrun and under SLURM; several local devices start one process each.
    Raises DetectNetError when the machine has no such devices.
    """
    precision = choose_precision(
        config.precision, config.accelerator, min_channels=min_input_channels(model)
    )
    fabric = _start_fabric(config, precision)
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


class Alone(nn.Module):
    """A network in Fabric's precision, without its communication with other processes."""

    def __init__(self, fabric: Fabric, network: nn.Module) -> None:
        super().__init__()
        self.fabric, self.network = fabric, network

    def forward(self, images: torch.Tensor) -> object:
        with self.fabric.autocast():
            return self.network(images)


def _start_fabric(config: FitConfig, precision: Precision) -> Fabric:
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=_device_count(config),
            num_nodes=config.num_nodes,
            precision=precision.name,  # type: ignore[arg-type]
        )
    except Exception as error:  # Fabric meets what is not there with errors of any kind
        raise _unavailable(config, error) from error
    try:
        fabric.launch()
    except ValueError as error:  # torchrun started another number of processes
        raise _unavailable(config, error) from error
    return fabric


def _unavailable(config: FitConfig, error: Exception) -> DetectNetError:
    reason = " ".join(str(error).split())[:200]
    return DetectNetError(
        f"accelerator {config.accelerator}, devices {config.devices}, num_nodes "
        f"{config.num_nodes} cannot be had here ({reason}); set accelerator and devices to auto"
    )


def _device_count(config: FitConfig) -> int | str:
    """A CPU is one device unless a number says otherwise: one process with many threads.

    Under torchrun "auto" is as many as it started processes on this machine.
    """
    if config.devices == "auto" and torch.distributed.is_torchelastic_launched():
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return int(config.devices) if config.devices.lstrip("-").isdigit() else config.devices
