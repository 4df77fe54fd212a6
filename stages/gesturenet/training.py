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
from functools import partial
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
from stages.gesturenet.device_feed import device_batches, prepare_device
from stages.gesturenet.feed import Batch, choose_backgrounds, crops_to_tensor, training_batches
from stages.gesturenet.joint_head import JointHead, Learner, joint_loss
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
    module: nn.Module  # Fabric's wrapping of the learner, for the forward pass
    learner: Learner
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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        make_batches = _choose_feed(train, config, state.fabric.device, rule=rule, pool=pool)
        for epoch in tqdm(epochs, desc="gesture", unit="epoch", disable=None):
            batches = make_batches(epoch)
            loss = _train_epoch(state, batches, config, num_crops=len(train.class_id), epoch=epoch)
            row = {"epoch": float(epoch + 1), "loss": loss, **_validate(state.average, val)}
            history.append(row)
            log(row)
            _save(state, work_dir / CHECKPOINT, config, history)
    return FitResult(state.average.cpu().eval(), history)


def _choose_feed(
    train: Crops,
    config: GestureConfig,
    device: torch.device,
    *,
    rule: RoiRule,
    pool: ThreadPoolExecutor,
) -> Callable[[int], Iterator[Batch]]:
    """Return what makes an epoch's batches: on a GPU if that is what trains, else by threads."""
    backgrounds = choose_backgrounds(train, config)
    if device.type == "cuda":
        resident = prepare_device(train, backgrounds, device)
        return partial(device_batches, resident, config, rule=rule)
    return partial(training_batches, train, config, rule=rule, pool=pool, backgrounds=backgrounds)


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
    model = GestureClassifier(Architecture(width=config.width, blocks=tuple(config.blocks)))
    head = JointHead(model.architecture) if config.joints_weight else None
    learner = Learner(model, head)
    precision = choose_precision(
        config.precision, config.accelerator, min_channels=min_input_channels(model)
    )
    fabric = Fabric(accelerator=config.accelerator, devices=1, precision=cast(Any, precision.name))
    LOGGER.info(
        "gesture: training on %s in %s: %s", fabric.device, precision.name, precision.reason
    )
    average = GestureClassifier(model.architecture)
    average.load_state_dict(model.state_dict())
    optimizer = build_optimizer(learner, weight_decay=config.weight_decay)
    memory_format = choose_memory_format(model, fabric.device)
    learner.to(memory_format=memory_format)  # type: ignore[call-overload]
    module, wrapped = fabric.setup(learner, optimizer)
    return _State(fabric, module, learner, model, average.to(fabric.device).eval(), wrapped)


def _train_epoch(
    state: _State,
    batches: Iterator[Batch],
    config: GestureConfig,
    *,
    num_crops: int,
    epoch: int,
) -> float:
    """Run one epoch and return its mean loss."""
    state.module.train()
    losses: list[torch.Tensor] = []  # read at the end: each reading waits for the device
    sizes: list[int] = []
    for index, batch in enumerate(batches):
        progress = (epoch + min(1.0, sum(sizes) / num_crops)) / config.epochs
        set_learning_rate(state.optimizer, learning_rate_at(progress, config))
        losses.append(_step(state, batch, config))
        sizes.append(len(batch.class_id))
        _update_average(
            state, config, step=epoch * math.ceil(num_crops / config.batch_size) + index
        )
    total = sum(size * float(loss) for size, loss in zip(sizes, losses, strict=True))
    return total / max(sum(sizes), 1)


def _step(state: _State, batch: Batch, config: GestureConfig) -> torch.Tensor:
    images, targets, joints = state.fabric.to_device(tuple(batch))
    images = images.contiguous(memory_format=choose_memory_format(state.model, images.device))
    logits, found = state.module(images)
    loss = nn.functional.cross_entropy(
        logits.float(), targets, label_smoothing=config.label_smoothing
    )
    if found is not None:
        loss = loss + config.joints_weight * joint_loss(found.float(), joints)
    state.optimizer.zero_grad()
    state.fabric.backward(loss)
    state.fabric.clip_gradients(state.module, state.optimizer, max_norm=GRADIENT_CLIP_NORM)
    state.optimizer.step()
    return loss.detach()


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
        "learner": state.learner.state_dict(),
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
    state.learner.load_state_dict(content["learner"])
    state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    history = cast(list[Row], content["history"])
    LOGGER.info("gesture: resuming after epoch %d", len(history))
    return history
