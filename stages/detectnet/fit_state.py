"""The state of a training run, saved after each epoch so that a killed run can go on.

A checkpoint holds tensors and plain values only. Model tensors are restored in place by name,
which also works for quantized modules.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.detectnet.config import FitConfig, to_plain
from stages.detectnet.ema import WeightAverage
from stages.detectnet.errors import DetectNetError
from stages.detectnet.losses import LossWeights

CHECKPOINT = "fit.pt"
HistoryRow = dict[str, float]


@dataclass
class FitState:
    """What changes while training. epoch: how many are complete. best_ap50: -1 = none."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    weights: LossWeights
    epoch: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    best_ap50: float = -1.0
    best_tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def state_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the live tensors of a model's state by name."""
    state = model.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def clone_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy a model's state."""
    return {name: value.clone() for name, value in state_tensors(model).items()}


@torch.no_grad()
def restore_tensors(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Write saved tensors into the model in place."""
    live = state_tensors(model)
    for name, value in tensors.items():
        live[name].copy_(value)


def save_checkpoint(state: FitState, config: FitConfig, folder: Path) -> None:
    """Write the state aside and rename it, so that a kill leaves the old or the new one whole."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{CHECKPOINT}.writing"
    torch.save(
        {
            "config": to_plain(config),
            "model": state_tensors(state.model),
            "optimizer": state.optimizer.state_dict(),
            "average": state.average.state_dict() if state.average else None,
            "weights": tuple(state.weights),
            "epoch": state.epoch,
            "history": state.history,
            "best_ap50": state.best_ap50,
            "best_tensors": state.best_tensors,
        },
        aside,
    )
    os.replace(aside, folder / CHECKPOINT)


def load_checkpoint(state: FitState, config: FitConfig, folder: Path) -> bool:
    """Restore the state from the folder; False when nothing is there or it was another run's.

    Raises DetectNetError when the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return False
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler meets damage with errors of any kind
        raise DetectNetError(
            f"{path} is no whole checkpoint ({type(error).__name__}); remove it to start anew"
        ) from error
    if saved["config"] != to_plain(config) or not _fits(saved, state.model):
        return False
    _restore(state, saved)
    return True


def _fits(saved: dict[str, Any], model: nn.Module) -> bool:
    live = {name: value.shape for name, value in state_tensors(model).items()}
    return live == {name: value.shape for name, value in saved["model"].items()}


def _restore(state: FitState, saved: dict[str, Any]) -> None:
    restore_tensors(state.model, saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    if state.average is not None:
        state.average.load_state_dict(saved["average"])
    state.weights = LossWeights(*saved["weights"])
    state.epoch, state.history = saved["epoch"], saved["history"]
    state.best_ap50, state.best_tensors = saved["best_ap50"], saved["best_tensors"]
