"""The state of a training run, saved after each epoch so that a killed run can go on.

A checkpoint holds tensors and plain values only. Model tensors are restored in place by name,
which also works for quantized modules.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.detectnet.config import FitConfig, to_plain
from stages.detectnet.ema import WeightAverage
from stages.detectnet.errors import DetectNetError
from stages.detectnet.losses import LossWeights
from stages.detectnet.torch_file import read_torch_file

LOGGER = logging.getLogger(__name__)
CHECKPOINT = "fit.pt"
KEYS = (
    "architecture",
    "average",
    "best_ap50",
    "best_tensors",
    "config",
    "epoch",
    "history",
    "model",
    "optimizer",
    "weights",
)
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
            "architecture": _describe(state.model),
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

    The line in the log says which of the two. Raises DetectNetError when the file is damaged or no
    checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return False
    remedy = "remove it to start anew"
    saved = read_torch_file(path, kind="checkpoint", keys=KEYS, remedy=remedy)
    try:
        difference = _difference(saved, config, state.model)
        if not difference:
            _restore(state, saved)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DetectNetError(f"{path} does not fit this program ({reason}); {remedy}") from error
    if difference:
        LOGGER.info("%s is of another %s; starting anew", path, difference)
    return not difference


def _difference(saved: dict[str, Any], config: FitConfig, model: nn.Module) -> str:
    """Name what another run's checkpoint has of its own; empty for this run's."""
    if saved["architecture"] != _describe(model) or _shapes(saved["model"]) != _shapes(
        state_tensors(model)
    ):
        return "architecture"
    ours, theirs = to_plain(config), saved["config"]
    if theirs == ours:
        return ""
    known = theirs if isinstance(theirs, dict) else {}
    return f"configuration ({', '.join(key for key in ours if known.get(key) != ours[key])})"


def _describe(model: nn.Module) -> str:
    """Tell apart networks whose tensors have equal shapes: other activations, another input."""
    return repr(getattr(model, "architecture", None))


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


def _restore(state: FitState, saved: dict[str, Any]) -> None:
    restore_tensors(state.model, saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    if state.average is not None:
        state.average.load_state_dict(saved["average"])
    state.weights = LossWeights(*saved["weights"])
    state.epoch, state.history = saved["epoch"], saved["history"]
    state.best_ap50, state.best_tensors = saved["best_ap50"], saved["best_tensors"]
