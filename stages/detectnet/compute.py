"""Where a training runs: Lightning Fabric, with device and precision chosen by the machine."""

import logging

import torch
from torch import nn

from stages.detectnet.config import FitConfig
from stages.learning.precision import choose_precision, min_input_channels

try:
    from lightning_fabric import Fabric
except ImportError:  # the package `lightning` carries the same code under another name
    from lightning.fabric import Fabric  # type: ignore[no-redef]

LOGGER = logging.getLogger(__name__)


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


class Alone(nn.Module):
    """A network in Fabric's precision, without its communication with other processes."""

    def __init__(self, fabric: Fabric, network: nn.Module) -> None:
        super().__init__()
        self.fabric, self.network = fabric, network

    def forward(self, images: torch.Tensor) -> object:
        with self.fabric.autocast():
            return self.network(images)


def _device_count(config: FitConfig) -> int | str:
    """A CPU is one device unless a number says otherwise: one process with many threads."""
    return int(config.devices) if config.devices.lstrip("-").isdigit() else config.devices
