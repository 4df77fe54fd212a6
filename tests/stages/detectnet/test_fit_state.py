"""Checkpoints of a run: resumed by the run that wrote them, and by no other."""

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stages.detectnet.config import FitConfig, OptimizerConfig
from stages.detectnet.ema import WeightAverage
from stages.detectnet.errors import DetectNetError
from stages.detectnet.fit_state import CHECKPOINT, FitState, load_checkpoint, save_checkpoint
from stages.detectnet.losses import LossWeights
from stages.detectnet.model import Architecture, DetectNet, build_architecture
from stages.detectnet.optimizer import build_optimizer

CONFIG = FitConfig(optimizer=OptimizerConfig(name="adamw"))
ARCHITECTURE = build_architecture(10, width=4, input_wh=[64, 32])


def new_state(
    architecture: Architecture = ARCHITECTURE, config: FitConfig = CONFIG, *, seed: int = 0
) -> FitState:
    """Make a state after one step of training on nothing in particular."""
    torch.manual_seed(seed)
    model = DetectNet(architecture)
    optimizer = build_optimizer(model, config.optimizer)
    model(torch.rand(1, 3, 32, 64)).bbox.sum().backward()
    optimizer.step()
    state = FitState(model, optimizer, WeightAverage(model, decay=0.9), LossWeights(0.4, 0.6))
    state.epoch, state.history = 1, [{"epoch": 1.0, "loss": 0.5}]
    return state


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    saved, state = new_state(), new_state(seed=1)
    save_checkpoint(saved, CONFIG, tmp_path)
    state.epoch, state.history, state.weights = 0, [], LossWeights(0.5, 0.5)
    assert load_checkpoint(state, CONFIG, tmp_path)
    assert (state.epoch, state.history, state.weights) == (1, saved.history, saved.weights)
    ours, theirs = state.model.state_dict(), saved.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert str(state.optimizer.state_dict()) == str(saved.optimizer.state_dict())


def test_nothing_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert not load_checkpoint(new_state(), CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("architecture", "config", "named"),
    [
        (build_architecture(18, width=4, input_wh=[64, 32]), CONFIG, "architecture"),
        (build_architecture(10, width=8, input_wh=[64, 32]), CONFIG, "architecture"),
        (build_architecture(10, width=4, input_wh=[96, 32]), CONFIG, "architecture"),
        (dataclasses.replace(ARCHITECTURE, activation="relu6"), CONFIG, "architecture"),
        (
            ARCHITECTURE,
            dataclasses.replace(CONFIG, epochs=3, seed=1),
            r"configuration \(epochs, seed\)",
        ),
        (
            ARCHITECTURE,
            dataclasses.replace(CONFIG, optimizer=OptimizerConfig(name="adam")),
            r"configuration \(optimizer\)",
        ),
    ],
    ids=["layers", "width", "input", "activation", "epochs", "optimizer"],
)
def test_another_run_starts_anew_and_says_so(
    architecture: Architecture,
    config: FitConfig,
    named: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_checkpoint(new_state(), CONFIG, tmp_path)
    state = new_state(architecture, config, seed=1)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        assert not load_checkpoint(state, config, tmp_path)
    assert all(
        torch.equal(value, before[name]) for name, value in state.model.state_dict().items()
    )
    (line,) = caplog.messages
    assert line.startswith(str(tmp_path / CHECKPOINT))
    assert line.endswith("; starting anew")
    assert re.search(f"is of another {named};", line)


def write(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def change(key: str, value: object) -> Callable[[Path], None]:
    """Make a change of one entry of the file."""

    def spoil(path: Path) -> None:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        torch.save({**content, key: value}, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "not a checkpoint or is"),
        (lambda path: path.write_bytes(b""), "not a checkpoint or is damaged"),
        (write(nn.Linear(1, 1)), "not a checkpoint or is damaged"),
        (write(torch.zeros(3)), "holds a Tensor, not a checkpoint"),
        (write({"state_dict": {}, "epoch": 1}), "it lacks architecture, average, best_ap50"),
        (change("model", 3), "does not fit this program"),
        (change("optimizer", {"state": {}, "param_groups": []}), "does not fit this program"),
        (change("average", None), "does not fit this program"),
        (change("weights", (1.0,)), "does not fit this program"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    save_checkpoint(new_state(), CONFIG, tmp_path)
    spoil(tmp_path / CHECKPOINT)
    with pytest.raises(DetectNetError) as caught:
        load_checkpoint(new_state(), CONFIG, tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).endswith("; remove it to start anew")
    assert "\n" not in str(caught.value)
