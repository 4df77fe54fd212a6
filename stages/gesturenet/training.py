"""Trains the gesture classifier on labelled crops: a plain loop on Lightning Fabric.

Muon (see optimizer.py), linear warm-up and cosine decay, label smoothing, classes in equal shares,
averaged weights (EMA), crops that grow over the epochs. Every random number follows from (seed,
epoch), and a checkpoint is left after each epoch, so that a run that was killed ends with the
weights of one that was not.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from deploy.core.roi import RoiRule
from stages.gesturenet.config import GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.feed import choose_backgrounds, crops_to_tensor, training_batches
from stages.gesturenet.metrics import accuracy, confusion_matrix, negative_log_likelihood
from stages.gesturenet.model import Architecture, GestureClassifier
from stages.gesturenet.optimizer import build_optimizer, set_learning_rate
from stages.learning.precision import choose_memory_format, choose_precision, min_input_channels

LOGGER = logging.getLogger(__name__)
CHECKPOINT = "training.ckpt"
GRADIENT_CLIP_NORM = 5.0
PREDICT_BATCH = 128

Row = dict[str, float]


class FitResult(NamedTuple):
    """model: the averaged weights, in evaluation mode on the CPU. history: one row per epoch."""

    model: GestureClassifier
    history: list[Row]


class _State(NamedTuple):
    fabric: Fabric
    module: nn.Module  # Fabric's wrapping, for the forward pass
    model: GestureClassifier
    average: GestureClassifier
    optimizer: torch.optim.Optimizer


def fit(
    train: Crops,
    val: Crops,
    config: GestureConfig,
    *,
    rule: RoiRule,
    work_dir: Path,
    log: Callable[[Row], None],
) -> FitResult:
    """Train for config.epochs, resuming from work_dir; `log` gets each epoch's row.

    train: crops with more context than the region needs (their boxes are disturbed before the rule
    is applied); val: crops of exactly the region, which the runtime would see. train must not be
    empty.
    """
    state = _build(config)
    history = _resume(state, work_dir / CHECKPOINT, config)
    epochs = range(len(history), config.epochs)
    backgrounds = choose_backgrounds(train, config)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for epoch in tqdm(epochs, desc="gesture", unit="epoch", disable=None):
            batches = training_batches(
                train, config, epoch, rule=rule, pool=pool, backgrounds=backgrounds
            )
            loss = _train_epoch(state, batches, config, num_crops=len(train.class_id), epoch=epoch)
            row = {"epoch": float(epoch + 1), "loss": loss, **_validate(state.average, val)}
            history.append(row)
            log(row)
            _save(state, work_dir / CHECKPOINT, config, history)
    return FitResult(state.average.cpu().eval(), history)


def predict_logits(model: GestureClassifier, images: torch.Tensor) -> np.ndarray:
    """Return logits (N, C) float32 of images (N, 3, H, W) in [0, 1], computed in FP32."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        parts = [model.logits(part.to(device)).cpu() for part in images.split(PREDICT_BATCH)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, 6), np.float32)


def learning_rate_at(progress: float, config: GestureConfig) -> float:
    """Return the learning rate at progress in [0, 1): linear warm-up, then cosine to zero."""
    if progress < config.warmup_frac:
        return config.learning_rate * progress / config.warmup_frac
    along = (progress - config.warmup_frac) / (1 - config.warmup_frac)
    return config.learning_rate * (1 + math.cos(math.pi * along)) / 2


def _build(config: GestureConfig) -> _State:
    torch.manual_seed(config.seed)
    model = GestureClassifier(Architecture(width=config.width))
    precision = choose_precision(
        config.precision, config.accelerator, min_channels=min_input_channels(model)
    )
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=cast(Any, precision.name))
    LOGGER.info(
        "gesture: training on %s in %s: %s", fabric.device, precision.name, precision.reason
    )
    average = GestureClassifier(model.architecture)
    average.load_state_dict(model.state_dict())
    optimizer = build_optimizer(model, weight_decay=config.weight_decay)
    memory_format = choose_memory_format(model, fabric.device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    module, wrapped = fabric.setup(model, optimizer)
    module.mark_forward_method("logits")
    return _State(fabric, module, model, average.to(fabric.device).eval(), wrapped)


def _train_epoch(
    state: _State,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    config: GestureConfig,
    *,
    num_crops: int,
    epoch: int,
) -> float:
    """Run one epoch and return its mean loss."""
    state.module.train()
    losses, num_seen = 0.0, 0
    for index, (images, targets) in enumerate(batches):
        progress = (epoch + min(1.0, num_seen / num_crops)) / config.epochs
        set_learning_rate(state.optimizer, learning_rate_at(progress, config))
        losses += len(targets) * _step(state, images, targets, config)
        num_seen += len(targets)
        _update_average(
            state, config, step=epoch * math.ceil(num_crops / config.batch_size) + index
        )
    return losses / max(num_seen, 1)


def _step(
    state: _State, images: torch.Tensor, targets: torch.Tensor, config: GestureConfig
) -> float:
    images, targets = state.fabric.to_device((images, targets))
    images = images.contiguous(memory_format=choose_memory_format(state.model, images.device))
    logits = cast(torch.Tensor, state.module.logits(images))  # type: ignore[operator]
    loss = nn.functional.cross_entropy(
        logits.float(), targets, label_smoothing=config.label_smoothing
    )
    state.optimizer.zero_grad()
    state.fabric.backward(loss)
    state.fabric.clip_gradients(state.module, state.optimizer, max_norm=GRADIENT_CLIP_NORM)
    state.optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _update_average(state: _State, config: GestureConfig, *, step: int) -> None:
    """Move the averaged weights and statistics towards the trained ones; quickly at first."""
    decay = min(config.ema_decay, (1 + step) / (10 + step))
    for mean, value in zip(
        state.average.state_dict().values(), state.model.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _validate(model: GestureClassifier, val: Crops) -> Row:
    if len(val.class_id) == 0:
        return {}
    logits = predict_logits(model, crops_to_tensor(val.images))
    confusion = confusion_matrix(val.class_id, logits.argmax(axis=1), num_classes=logits.shape[1])
    loss = negative_log_likelihood(logits, val.class_id)
    return {"val_loss": loss, "val_accuracy": accuracy(confusion)}


def _save(state: _State, path: Path, config: GestureConfig, history: list[Row]) -> None:
    content = {
        "config": asdict(config),
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "history": history,
    }
    aside = path.with_suffix(".tmp")
    torch.save(content, aside)
    os.replace(aside, path)


def _resume(state: _State, path: Path, config: GestureConfig) -> list[Row]:
    """Load a checkpoint of the same configuration and return its history; else an empty one."""
    if not path.exists():
        return []
    content = torch.load(path, map_location=state.fabric.device, weights_only=True)
    if content["config"] != asdict(config):
        LOGGER.info("gesture: the checkpoint belongs to another configuration, starting anew")
        return []
    state.model.load_state_dict(content["model"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    history = cast(list[Row], content["history"])
    LOGGER.info("gesture: resuming after epoch %d", len(history))
    return history
