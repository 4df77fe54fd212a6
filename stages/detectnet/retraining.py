"""Recover a pruned network and make it an 8-bit one: float training, calibration, QAT."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deploy.core.cluster import Postprocess
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.config import FitConfig
from stages.detectnet.data import Samples
from stages.detectnet.feed import count_steps
from stages.detectnet.folding import measure_batch_norm
from stages.detectnet.model import DetectNet, replace_activation
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
) -> Retrained:
    """Train a copy of a float network on as configured, then quantize it and train that.

    work_dir: where both phases keep their checkpoints and resume from them. log: as in
    training.fit; the epochs of the second phase are counted on from the first.
    Raises DetectNetError when the network is quantized already or the loss diverges.
    """
    float_result = None
    model = replace_activation(model, config.activation)
    _measure_batch_norm(model, samples_train, config)
    if config.float_fit is not None:
        float_result = fit(
            model,
            samples_train,
            samples_val,
            config.float_fit,
            postprocess=postprocess,
            work_dir=work_dir / "float" if work_dir else None,
            log=log,
            section="retrain.float_fit",
        )
        if _count_steps(samples_train, config.float_fit) < config.batch_norm_steps:
            _measure_batch_norm(model, samples_train, config)
    batches = calibration_batches(samples_train, num_images=config.calibration.images)
    quantized = quantize_model(model, batches, config)
    ptq_metrics: dict[str, float] = {}
    if samples_val is not None:
        device = next(quantized.parameters()).device
        ptq_metrics = validate(quantized, samples_val, postprocess, device=device)
    qat_result = fit(
        quantized,
        samples_train,
        samples_val,
        config.qat_fit,
        postprocess=postprocess,
        work_dir=work_dir / "qat" if work_dir else None,
        log=_counted_on(log, len(float_result.history) if float_result else 0),
        section="retrain.qat_fit",
    )
    assert isinstance(qat_result.model, DetectNet)
    return Retrained(qat_result.model, float_result, ptq_metrics, qat_result)


def calibration_batches(samples: Samples, *, num_images: int) -> Iterator[torch.Tensor]:
    """Yield num_images pictures, at most all, evenly spread: (B, 3, H, W) float32 in [0, 1]."""
    count = min(num_images, len(samples))
    indices = np.linspace(0, len(samples) - 1, count).round().astype(int)
    for start in range(0, count, CALIBRATION_BATCH):
        pixels = samples.images[indices[start : start + CALIBRATION_BATCH]]
        yield torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0


def _measure_batch_norm(model: DetectNet, samples: Samples, config: RetrainConfig) -> None:
    if config.batch_norm_images > 0:
        batches = calibration_batches(samples, num_images=config.batch_norm_images)
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
