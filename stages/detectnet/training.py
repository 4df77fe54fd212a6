"""The training loop, shared by training from scratch and quantization-aware retraining.

`fit` takes any module with DetectNet's forward and trains it in place through Lightning Fabric
(device, precision, several GPUs). On one machine and thread count equal inputs give equal
weights, whether or not the run was interrupted: order and augmentation follow from the seed and
the epoch (feed.py), the rest is in the checkpoint (fit_state.py).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from deploy.core.cluster import Postprocess
from stages.detectnet.augment import augment_batch
from stages.detectnet.compute import Alone, Fabric, open_fabric
from stages.detectnet.config import FitConfig
from stages.detectnet.data import Samples
from stages.detectnet.distillation import Teacher, ask_teacher, imitation_losses, place_teacher
from stages.detectnet.ema import WeightAverage
from stages.detectnet.feed import Feed, Shard, count_steps, epoch_order, seeded
from stages.detectnet.finite import check_finite
from stages.detectnet.fit_state import (
    FitState,
    HistoryRow,
    clone_tensors,
    load_checkpoint,
    restore_tensors,
    save_checkpoint,
)
from stages.detectnet.folding import (
    absorb_biases_inplace,
    freeze_batch_norm_inplace,
    release_biases_inplace,
    set_training_inplace,
)
from stages.detectnet.history import log_row
from stages.detectnet.losses import (
    LossTerms,
    LossWeights,
    compute_losses,
    initial_weights,
    l1_regularizer,
    update_weights,
    weigh,
)
from stages.detectnet.memory import unless_out_of_memory
from stages.detectnet.memory_error import preparing_error, training_error
from stages.detectnet.model import DetectNet
from stages.detectnet.optimizer import build_optimizer, prepare_step
from stages.detectnet.schedule import learning_rate_at
from stages.detectnet.targets import Targets, rasterize_boxes
from stages.detectnet.validation import BATCH_SIZE, validate
from stages.learning.precision import choose_memory_format

LOGGER = logging.getLogger(__name__)
Log = Callable[[Mapping[str, float], int], None]
# How often the losses are looked at; each look waits for the GPU.
CHECK_STEPS = 50


class FitResult(NamedTuple):
    """What a run gives.

    model: the trained module, on the CPU, in evaluation mode. history: one row per epoch (epoch,
    loss, coverage_loss, bbox_loss, learning_rate, weights, and val_* where validated), equal for
    equal runs; with a teacher its share is in loss alone. metrics: ap, ap50, ap75 of the returned
    weights on the validation split, empty when never validated. is_main: whether this process
    writes results (one of several does).
    """

    model: nn.Module
    history: list[HistoryRow]
    metrics: dict[str, float]
    is_main: bool


class EpochSums(NamedTuple):
    """Losses summed over an epoch's batches and all processes, and the last learning rate."""

    loss: float
    coverage: float
    bbox: float
    learning_rate: float


class _Run(NamedTuple):
    """What stays the same during a run."""

    fabric: Fabric
    network: nn.Module
    feed: Feed
    stems: tuple[str, ...]
    input_wh: tuple[int, int]
    config: FitConfig
    memory_format: torch.memory_format
    teacher: Teacher | None


def fit(
    model: nn.Module,
    samples_train: Samples,
    samples_val: Samples | None,
    config: FitConfig,
    *,
    postprocess: Postprocess,
    work_dir: Path | None,
    log: Log | None = None,
    section: str = "train",
    teacher: Teacher | None = None,
) -> FitResult:
    """Train the model in place and return it with the selected weights.

    work_dir: where the checkpoint goes after each epoch, and is resumed from when it is there and
    the configuration is the same; None = no checkpoints. log: called after each epoch as
    log({"train/loss": ..., "val/ap50": ...}, epoch), epochs counted from 1, resumed ones
    again. samples_val None = no validation. section: what the configuration is called in
    resolved.yaml, for messages. teacher: whom the model imitates as well; it stays as it is, and
    is not in the checkpoint: another teacher wants another work_dir.
    Raises DetectNetError when the loss stops being a finite number, and when memory runs out.
    """
    fabric = open_fabric(config, model)
    input_wh = samples_train.input_wh
    prepared = unless_out_of_memory(
        lambda: _prepare(fabric, model, samples_train, config, teacher)
    )
    if prepared is None:
        raise preparing_error(fabric.device, input_wh=input_wh)
    run, state = prepared
    if work_dir is not None and load_checkpoint(state, config, work_dir):
        LOGGER.info("resuming after epoch %d of %d", state.epoch, config.epochs)
    emit = log if log is not None and fabric.is_global_zero else _ignore
    result = unless_out_of_memory(
        lambda: _run_epochs(run, state, samples_val, postprocess, work_dir=work_dir, emit=emit)
    )
    if result is None:
        raise training_error(
            fabric, state, config, partial(_try_step, run), section=section, input_wh=input_wh
        )
    return result


def _run_epochs(
    run: _Run,
    state: FitState,
    samples_val: Samples | None,
    postprocess: Postprocess,
    *,
    work_dir: Path | None,
    emit: Log,
) -> FitResult:
    config, fabric = run.config, run.fabric
    for row in state.history:
        emit(log_row(row), int(row["epoch"]))
    while state.epoch < config.epochs:
        started = time.perf_counter()
        row = _train_epoch(run, state)
        seconds = time.perf_counter() - started
        if samples_val is not None and is_validated(state.epoch, config):
            row |= _validate(run, state, samples_val, postprocess)
        state.history.append(row)
        emit({**log_row(row), "train/images_per_s": _num_images(run) / seconds}, state.epoch)
        if work_dir is not None and fabric.is_global_zero:
            save_checkpoint(state, config, work_dir)
        fabric.barrier()
    return _finish(run, state)


def is_validated(epoch: int, config: FitConfig) -> bool:
    """Say whether the given epoch, counted from 1, ends with a validation."""
    every = config.validate_every_epochs
    return every > 0 and (epoch % every == 0 or epoch == config.epochs)


def _prepare(
    fabric: Fabric, model: nn.Module, samples: Samples, config: FitConfig, teacher: Teacher | None
) -> tuple[_Run, FitState]:
    torch.manual_seed(config.seed)
    if config.freeze_batch_norm:
        freeze_batch_norm_inplace(model)
    elif isinstance(model, DetectNet):
        # A frozen batch normalisation does not take a bias out again.
        absorb_biases_inplace(model)
    memory_format = choose_memory_format(model, fabric.device)
    model.to(memory_format=memory_format)  # type: ignore[call-overload]
    placed = place_teacher(fabric, teacher, memory_format)
    optimizer = build_optimizer(model, config.optimizer)
    # The compiled module is a view of the model, whose own names and methods stay.
    forward = torch.compile(model) if config.compile else model
    network, optimizer = fabric.setup(forward, optimizer)  # type: ignore[arg-type]  # a module
    average = WeightAverage(model, decay=config.ema_decay) if config.ema_decay > 0.0 else None
    feed = Feed(samples, device=fabric.device)
    run = _Run(
        fabric, network, feed, samples.stems, samples.input_wh, config, memory_format, placed
    )
    return run, FitState(model, optimizer, average, initial_weights(config.loss))


def _train_epoch(run: _Run, state: FitState) -> HistoryRow:
    """Run one epoch, advance the state, and return its row."""
    config = run.config
    set_training_inplace(run.network, freeze_batch_norm=config.freeze_batch_norm)
    sums = _run_steps(run, state)
    steps = _steps(run) * run.fabric.world_size
    state.epoch += 1
    row = {
        "epoch": float(state.epoch),
        "loss": sums.loss / steps,
        "coverage_loss": sums.coverage / steps,
        "bbox_loss": sums.bbox / steps,
        "learning_rate": sums.learning_rate,
        "coverage_weight": state.weights.coverage,
        "bbox_weight": state.weights.bbox,
    }
    state.weights = update_weights(
        state.weights, LossWeights(sums.coverage, sums.bbox), config.loss
    )
    return row


def _run_steps(run: _Run, state: FitState) -> EpochSums:
    config, fabric = run.config, run.fabric
    shard = Shard(fabric.global_rank, fabric.world_size)
    order = epoch_order(
        len(run.stems),
        batch_size=config.batch_size,
        shard=shard,
        seed=config.seed,
        epoch=state.epoch,
    )
    generator = seeded(config.seed, state.epoch, 0)
    losses = torch.zeros(len(order), 3, device=fabric.device)
    desc = f"epoch {state.epoch + 1}/{config.epochs}"
    disable = None if fabric.is_global_zero else True
    learning_rate = 0.0
    for index, indices in enumerate(tqdm(order, desc=desc, unit="batch", disable=disable)):
        step = state.epoch * len(order) + index
        learning_rate = _set_rate(state, config, step=step, total=config.epochs * len(order))
        progress = step / (config.epochs * len(order))
        losses[index] = _train_step(run, state, indices, generator, progress=progress)
        if (index + 1) % CHECK_STEPS == 0 or index + 1 == len(order):
            check_finite(
                losses,
                order,
                run.stems,
                epoch=state.epoch,
                learning_rate=config.learning_rate,
            )
    total = fabric.all_reduce(losses.sum(dim=0), reduce_op="sum")
    assert isinstance(total, torch.Tensor)
    loss, coverage, bbox = total.tolist()
    return EpochSums(loss, coverage, bbox, learning_rate)


def _set_rate(state: FitState, config: FitConfig, *, step: int, total: int) -> float:
    learning_rate = learning_rate_at(
        step / total, maximum=config.learning_rate, config=config.schedule
    )
    prepare_step(state.optimizer, config.optimizer, step=step, learning_rate=learning_rate)
    return learning_rate


def _train_step(
    run: _Run,
    state: FitState,
    indices: torch.Tensor,
    generator: torch.Generator,
    *,
    progress: float = 0.0,
) -> torch.Tensor:
    """Make one optimiser step; returns total, coverage and box loss (3,), detached.

    progress: the part of the training that is behind it, 0 to 1.
    """
    config = run.config
    images, boxes, is_box = augment_batch(
        run.feed.batch(indices),
        config.augment,
        generator,
        rank=run.fabric.global_rank,
        world_size=run.fabric.world_size,
    )
    targets = rasterize_boxes(
        boxes, is_box, config.targets, input_wh=run.input_wh, device=images.device
    )
    images = images.contiguous(memory_format=run.memory_format)
    share = run.teacher.weight_at(progress) if run.teacher is not None else 0.0
    loss, terms = _compute_loss(run, state, images, targets, share=share)
    state.optimizer.zero_grad()
    run.fabric.backward(loss)
    if config.optimizer.gradient_clip_norm > 0.0:
        limit = config.optimizer.gradient_clip_norm
        run.fabric.clip_gradients(run.network, state.optimizer, max_norm=limit)
    state.optimizer.step()
    if state.average is not None:
        state.average.update(state.model)
    return torch.stack([loss.detach(), terms.coverage.detach(), terms.bbox.detach()])


def _compute_loss(
    run: _Run, state: FitState, images: torch.Tensor, targets: Targets, *, share: float
) -> tuple[torch.Tensor, LossTerms]:
    """Return what the step minimises, `share` of it imitation, and the terms against the truth."""
    config, teacher = run.config.loss, run.teacher
    # The teacher goes first: the network keeps its activations until the backward pass.
    wanted = ask_teacher(teacher, images) if teacher is not None and share > 0.0 else None
    outputs = run.network(images)
    terms = compute_losses(outputs, targets, config)
    loss = weigh(terms, state.weights)
    if wanted is not None:
        imitation = weigh(imitation_losses(outputs, wanted, config), state.weights)
        loss = (1.0 - share) * loss + share * imitation
    if config.regularizer_l1 > 0.0:
        loss = loss + config.regularizer_l1 * l1_regularizer(state.model)
    return loss, terms


def _try_step(run: _Run, state: FitState, batch_size: int) -> None:
    """Make a step of a state whose network Fabric has not wrapped, with any pictures."""
    alone = run._replace(network=Alone(run.fabric, state.model))
    indices = torch.arange(batch_size) % len(run.stems)
    _train_step(alone, state, indices, seeded(run.config.seed))


def _validate(
    run: _Run, state: FitState, samples: Samples, postprocess: Postprocess
) -> HistoryRow:
    """Measure the averaged weights where there are any, and keep them when they are the best."""
    metrics: dict[str, float] = {}
    with _averaged(state):
        if run.fabric.is_global_zero:
            metrics = validate(
                state.model,
                samples,
                postprocess,
                device=run.fabric.device,
                batch_size=min(BATCH_SIZE, run.config.batch_size),
            )
            if run.config.select == "best" and metrics["ap50"] > state.best_ap50:
                state.best_ap50, state.best_tensors = metrics["ap50"], clone_tensors(state.model)
    run.fabric.barrier()
    return {f"val_{name}": value for name, value in metrics.items()}


@contextlib.contextmanager
def _averaged(state: FitState) -> Iterator[None]:
    """Put the averaged weights into the model for a while."""
    live = clone_tensors(state.model)
    if state.average is not None:
        state.average.copy_to(state.model)
    try:
        yield
    finally:
        restore_tensors(state.model, live)


def _finish(run: _Run, state: FitState) -> FitResult:
    if state.best_tensors:
        restore_tensors(state.model, state.best_tensors)
    elif state.average is not None:
        state.average.copy_to(state.model)
    model = state.model.cpu().eval()
    if isinstance(model, DetectNet):
        release_biases_inplace(model)
    row = state.history[-1]
    if state.best_tensors:
        row = max(state.history, key=lambda each: each.get("val_ap50", -1.0))
    metrics = {name[4:]: value for name, value in row.items() if name.startswith("val_")}
    return FitResult(model, state.history, metrics, run.fabric.is_global_zero)


def _steps(run: _Run) -> int:
    return count_steps(
        len(run.stems), batch_size=run.config.batch_size, world_size=run.fabric.world_size
    )


def _num_images(run: _Run) -> int:
    return _steps(run) * run.config.batch_size * run.fabric.world_size


def _ignore(metrics: Mapping[str, float], step: int) -> None:
    """Stand in for a missing log."""
