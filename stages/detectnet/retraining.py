"""Recover a pruned network, or train its shape anew, and make it an 8-bit one: float training,
calibration, QAT.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deploy.core.cluster import Postprocess
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.compute import choose_device
from stages.detectnet.config import FitConfig
from stages.detectnet.data import Samples
from stages.detectnet.distillation import Teacher
from stages.detectnet.errors import DetectNetError
from stages.detectnet.feed import count_steps
from stages.detectnet.folding import measure_batch_norm
from stages.detectnet.model import DetectNet, build_network, replace_activation
from stages.detectnet.quantization import quantize_model
from stages.detectnet.training import FitResult, Log, fit
from stages.detectnet.validation import validate

LOGGER = logging.getLogger(__name__)
CALIBRATION_BATCH = 16


@dataclass(frozen=True)
class Retrained:
    """The quantized network and what each phase gave; float_result is None without that phase.

    ptq_metrics: ap, ap50, ap75 on the validation split with the ranges alone, before any training
    with rounding (post-training quantization); empty without that split.
    """

    model: DetectNet
    float_result: FitResult | None
    ptq_metrics: dict[str, float]
    qat_result: FitResult

    @property
    def history(self) -> list[dict[str, float]]:
        """The epochs of both phases as one run; quantized is 1 in the second."""
        rows: list[dict[str, float]] = []
        for quantized, result in enumerate((self.float_result, self.qat_result)):
            for row in result.history if result else []:
                rows.append({**row, "epoch": len(rows) + 1.0, "quantized": float(quantized)})
        return rows


def retrain_model(
    model: DetectNet,
    samples_train: Samples,
    samples_val: Samples | None,
    config: RetrainConfig,
    *,
    postprocess: Postprocess,
    work_dir: Path | None,
    log: Log | None = None,
    teacher: DetectNet | None = None,
) -> Retrained:
    """Train a copy of a float network on as configured, then quantize it and train that.

    With config.weights "fresh" the copy has the shape alone. work_dir: where both phases keep
    their checkpoints and resume from them, apart for each config.weights. log: as in
    training.fit; the epochs of the second phase are counted on from the first. teacher: the
    unpruned network, which both phases imitate when config.distill_weight is above 0; the second
    does not once the first has faded it out (config.distill_fade_frac).
    Raises DetectNetError when the network is quantized already, the loss diverges, or the teacher
    is missing or sees other pictures or classes.
    """
    float_result = None
    imitated = _choose_teacher(teacher, model, config)
    device = choose_device(config.qat_fit.accelerator)
    model = _starting_network(model, samples_train, config, device)
    if work_dir is not None:
        # The phases know their runs by shape and settings, which say nothing of the first weights.
        work_dir = work_dir / config.weights
    fit_phase = partial(
        _fit_phase, samples_train, samples_val, postprocess=postprocess, work_dir=work_dir
    )
    if config.float_fit is not None:
        float_result = fit_phase("float", model, config.float_fit, log=log, teacher=imitated)
        if _count_steps(samples_train, config.float_fit) < config.batch_norm_steps:
            _measure_batch_norm(model.to(device), samples_train, config)
    images = config.calibration.images
    batches = calibration_batches(samples_train, num_images=images, device=device)
    quantized = quantize_model(model.to(device), batches, config)
    ptq_metrics: dict[str, float] = {}
    if samples_val is not None:
        ptq_metrics = validate(quantized, samples_val, postprocess, device=device)
    qat_result = fit_phase(
        "qat",
        quantized,
        config.qat_fit,
        log=_counted_on(log, len(float_result.history) if float_result else 0),
        teacher=imitated if config.distill_fade_frac == 0.0 else None,
    )
    assert isinstance(qat_result.model, DetectNet)
    return Retrained(qat_result.model, float_result, ptq_metrics, qat_result)


def _fit_phase(
    samples_train: Samples,
    samples_val: Samples | None,
    name: str,
    model: DetectNet,
    config: FitConfig,
    *,
    postprocess: Postprocess,
    work_dir: Path | None,
    log: Log | None,
    teacher: Teacher | None,
) -> FitResult:
    """Train in place as retrain.NAME_fit says; its checkpoints have a folder NAME of their own."""
    return fit(
        model,
        samples_train,
        samples_val,
        config,
        postprocess=postprocess,
        work_dir=work_dir / name if work_dir else None,
        log=log,
        section=f"retrain.{name}_fit",
        teacher=teacher,
    )


def _starting_network(
    model: DetectNet, samples: Samples, config: RetrainConfig, device: torch.device
) -> DetectNet:
    """Return what the first phase trains, on the device; `model` stays as it is."""
    changed = replace_activation(model, config.activation)
    if config.weights == "fresh":
        assert config.float_fit is not None  # RetrainConfig wants one
        return build_network(changed.architecture, seed=config.float_fit.seed).to(device)
    _measure_batch_norm(changed.to(device), samples, config)
    return changed


def calibration_batches(
    samples: Samples, *, num_images: int, device: torch.device | None = None
) -> Iterator[torch.Tensor]:
    """Yield num_images pictures, at most all, evenly spread: (B, 3, H, W) float32 in [0, 1].

    device: where they go; None = the CPU.
    """
    count = min(num_images, len(samples))
    indices = np.linspace(0, len(samples) - 1, count).round().astype(int)
    for start in range(0, count, CALIBRATION_BATCH):
        pixels = samples.images[indices[start : start + CALIBRATION_BATCH]]
        yield torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255.0


def _choose_teacher(
    teacher: DetectNet | None, model: DetectNet, config: RetrainConfig
) -> Teacher | None:
    weight = config.distill_weight
    if weight == 0.0:
        return None
    if teacher is None:
        raise DetectNetError(
            f"retrain.distill_weight is {weight:g}, but there is no network to imitate; give the "
            "unpruned one (models/train), or set retrain.distill_weight to 0.0"
        )
    theirs, ours = _describe(teacher), _describe(model)
    if theirs != ours:
        raise DetectNetError(
            f"the network to imitate (models/train) has {theirs}, the one to retrain "
            f"(models/prune) {ours}; expected equal ones; run dvc repro prune, or set "
            "retrain.distill_weight to 0.0"
        )
    return Teacher(teacher, weight, config.distill_fade_frac)


def _describe(model: DetectNet) -> str:
    width, height = model.architecture.input_wh
    return f"num_classes {model.architecture.num_classes}, input_wh {width}x{height}"


def _measure_batch_norm(model: DetectNet, samples: Samples, config: RetrainConfig) -> None:
    if config.batch_norm_images > 0:
        device = next(model.parameters()).device
        images = config.batch_norm_images
        batches = calibration_batches(samples, num_images=images, device=device)
        measure_batch_norm(model, batches)


def _count_steps(samples: Samples, config: FitConfig) -> int:
    """Count the steps that a finished run made in each process."""
    is_spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    world_size = torch.distributed.get_world_size() if is_spread else 1
    steps = count_steps(len(samples), batch_size=config.batch_size, world_size=world_size)
    return steps * config.epochs


def _counted_on(log: Log | None, offset: int) -> Log | None:
    if log is None:
        return None

    def log_later(metrics: Mapping[str, float], epoch: int) -> None:
        log(metrics, epoch + offset)

    return log_later
