"""What a training says that ran out of memory: what there is, what fits, and what to type."""

import copy
import logging
from collections.abc import Callable

import torch

from stages.detectnet.compute import Fabric
from stages.detectnet.config import FitConfig
from stages.detectnet.ema import WeightAverage
from stages.detectnet.errors import DetectNetError
from stages.detectnet.fit_state import FitState
from stages.detectnet.memory import (
    describe_memory,
    describe_remedy,
    find_fitting_batch,
    open_memory,
)
from stages.detectnet.optimizer import build_optimizer

LOGGER = logging.getLogger(__name__)
# Trains one step of a state with the given number of pictures.
TryStep = Callable[[FitState, int], object]


def preparing_error(device: torch.device, *, input_wh: tuple[int, int]) -> DetectNetError:
    """Say that the network alone is too much."""
    remedy = describe_remedy(None, section="", input_wh=input_wh)
    return DetectNetError(
        f"out of memory before the first step: {describe_memory(open_memory(device))}; {remedy}"
    )


def training_error(
    fabric: Fabric,
    state: FitState,
    config: FitConfig,
    try_step: TryStep,
    *,
    section: str,
    input_wh: tuple[int, int],
) -> DetectNetError:
    """Find by trying which batch size fits, and say so; the state is of no use after this."""
    LOGGER.info("out of memory with batch_size %d; trying smaller ones", config.batch_size)
    memory = open_memory(fabric.device)
    copied = _copy_alone(fabric, state, config)
    trial = find_fitting_batch(config.batch_size, lambda size: try_step(copied, size), memory)
    remedy = describe_remedy(trial, section=section, input_wh=input_wh)
    epochs = len(state.history)
    kept = f"the checkpoint of epoch {epochs} is kept for a run with the same settings"
    return DetectNetError(
        f"out of memory in epoch {epochs + 1} with batch_size {config.batch_size}: "
        f"{describe_memory(memory)}; {remedy}; {kept if epochs else 'no epoch was finished'}"
    )


def _copy_alone(fabric: Fabric, state: FitState, config: FitConfig) -> FitState:
    """Empty a state and return a fresh one, of a copy of its network that knows no other process.

    The others wait in the step that failed here, and would never answer.
    """
    state.optimizer.zero_grad()
    state.optimizer.state.clear()
    state.average = None
    model = copy.deepcopy(state.model.cpu()).to(fabric.device)
    optimizer = fabric.setup_optimizers(build_optimizer(model, config.optimizer))
    assert isinstance(optimizer, torch.optim.Optimizer)
    average = WeightAverage(model, decay=config.ema_decay) if config.ema_decay > 0.0 else None
    return FitState(model, optimizer, average, state.weights)
