"""Measures the engines that this machine can run and chooses one. The stage `engines` writes it.

An engine is a runtime with a precision. Its accuracy is AP on labelled frames; its latency that of
one inference at batch 1; its difference the largest one of any output from ONNX Runtime's FP32 on
a few of the frames, which is the reference because it computes the exported file as it stands.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.benchmark import measure_engine
from deploy.build import ensure_engine
from deploy.core.errors import DeployError, UserError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.core.preprocess import images_to_batch
from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from deploy.engine import TENSORRT, available_precisions, installed_runtimes, open_engine
from deploy.evaluation import evaluate_model
from deploy.frames import Frame, read_image
from deploy.tensorrt_make import BuildOptions
from stages._device_config import DeviceConfig

LOGGER = logging.getLogger(__name__)
REFERENCE = ("onnxruntime", "fp32")
COMPARED_FRAMES = 8
# Latencies nearer than this are equal: the earlier entry of the configuration wins, so that noise
# does not change the choice from run to run.
EQUAL_LATENCY = 1.1


@dataclass(frozen=True)
class Measured:
    """Figures of one engine; latencies in milliseconds.

    max_difference: from the reference, coverage in [0, 1] and bbox in units of the grid's scale.
    gesture_agreement: share of hands on which the classifier names the same class as in the
    reference. gesture is None when the classifier has no file of this precision, or is encrypted.
    """

    runtime: str
    precision: str
    version: str
    file: str
    threads: int
    ap: float
    ap50: float
    max_difference: float
    detector_ms: Mapping[str, float]
    gesture_ms: Mapping[str, float] | None
    gesture_agreement: float | None

    @property
    def name(self) -> str:
        """Runtime and precision as one word, such as `openvino_int8`."""
        return f"{self.runtime}_{self.precision}"


@dataclass(frozen=True)
class Choice:
    """The engine that deploy.run takes on this machine, and why the others are not it."""

    runtime: str
    precision: str
    reason: str
    rejected: Mapping[str, str]


@dataclass(frozen=True)
class Trial:
    """What is measured: model folders, labelled frames, and the tensors to compare outputs on."""

    detector: Path
    gesture: Path
    frames: Sequence[Frame]
    detector_batch: np.ndarray
    gesture_batch: np.ndarray


def prepare_trial(detector: Path, gesture: Path, frames: Sequence[Frame]) -> Trial:
    """Load the tensors of the first frames and of the hands that are labelled in them."""
    infos = read_model_json(detector), read_model_json(gesture)
    compared = frames[:: max(1, len(frames) // COMPARED_FRAMES)][:COMPARED_FRAMES]
    images = [read_image(frame.image_path) for frame in compared]
    hands = [_crop_hands(infos[1], *pair) for pair in zip(images, compared, strict=True)]
    return Trial(
        detector,
        gesture,
        frames,
        images_to_batch(images, input_wh=infos[0].input_wh, **infos[0].preprocess._asdict()),
        np.concatenate(hands),
    )


def candidates(info: ModelInfo, config: DeviceConfig) -> Iterator[tuple[str, str]]:
    """Yield runtime and precision of what is configured, installed and in the model's folder."""
    installed = installed_runtimes()
    for runtime in config.runtimes:
        if runtime in installed:
            usable = available_precisions(info, runtime)
            yield from ((runtime, name) for name in config.precisions if name in usable)


def measure_all(
    trial: Trial, config: DeviceConfig, *, progress: Callable[[str], None]
) -> list[Measured]:
    """Measure every candidate. Raises UserError when there is none."""
    pairs = list(candidates(read_model_json(trial.detector), config))
    if not pairs:
        wanted = ", ".join(config.runtimes)
        raise UserError(
            f"none of device.runtimes ({wanted}) is installed; run: pip install {wanted}"
        )
    reference = run_reference(trial)
    measured = []
    for runtime, precision in pairs:
        progress(f"{runtime} {precision}")
        if runtime != TENSORRT or _build(trial, precision):
            figures = measure(trial, config, reference, runtime=runtime, precision=precision)
            measured.append(figures)
    return measured


def _build(trial: Trial, precision: str) -> bool:
    """Build the detector's engine, and the classifier's; tell and leave out what cannot be."""
    try:
        ensure_engine(trial.detector, BuildOptions(precision=precision, strict=True))
        gesture = read_model_json(trial.gesture)
        if precision in available_precisions(gesture, TENSORRT) and not gesture.is_encrypted:
            ensure_engine(trial.gesture, BuildOptions(precision=precision, strict=True))
    except DeployError as error:
        LOGGER.warning("engines: no tensorrt %s here: %s", precision, error)
        return False
    return True


def run_reference(trial: Trial) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """Return the reference's detector outputs and gesture classes (N,).

    An encrypted gesture model has no classes here: N is 0 and only the detector is measured.
    """
    runtime, precision = REFERENCE
    with open_engine(trial.detector, runtime=runtime, precision=precision) as engine:
        outputs = engine.infer(trial.detector_batch)
    if read_model_json(trial.gesture).is_encrypted:
        LOGGER.info("engines: the gesture model is encrypted, only the detector is measured")
        return outputs, np.zeros(0, np.int64)
    with open_engine(trial.gesture, runtime=runtime, precision=precision) as engine:
        return outputs, _classes(engine, trial.gesture_batch)


def measure(
    trial: Trial,
    config: DeviceConfig,
    reference: tuple[Mapping[str, np.ndarray], np.ndarray],
    *,
    runtime: str,
    precision: str,
) -> Measured:
    """Measure one runtime with one precision."""
    repeats = {"warm_up": config.warmup, "repeats": config.repeats}
    with open_engine(trial.detector, runtime=runtime, precision=precision) as engine:
        metrics = evaluate_model(engine.infer, engine.model, trial.frames).metrics
        difference = _max_difference(engine.infer(trial.detector_batch), reference[0])
        detector_ms = measure_engine(engine, batch=1, **repeats)
        info = engine.info()
    gesture_ms, agreement = None, None
    if precision in available_precisions(read_model_json(trial.gesture), runtime):
        with open_engine(trial.gesture, runtime=runtime, precision=precision) as engine:
            gesture_ms = measure_engine(engine, batch=1, **repeats)
            agreement = _agreement(_classes(engine, trial.gesture_batch), reference[1])
    return Measured(
        runtime=runtime,
        precision=precision,
        version=info["version"],
        file=info["file"],
        threads=info["threads"],
        ap=float(metrics.ap),
        ap50=float(metrics.ap50),
        max_difference=difference,
        detector_ms=detector_ms,
        gesture_ms=gesture_ms,
        gesture_agreement=agreement,
    )


def choose(measured: Sequence[Measured], config: DeviceConfig) -> Choice:
    """Choose the fastest engine whose outputs are right and whose ap50 is near the best.

    measured: in order of preference, which decides between equal latencies. Raises UserError when
    every engine is rejected.
    """
    rejected = {e.name: fault for e in measured if (fault := _output_fault(e, config))}
    right = [engine for engine in measured if engine.name not in rejected]
    if not right:
        faults = "; ".join(f"{name}: {fault}" for name, fault in rejected.items())
        raise UserError(
            f"no engine is usable: {faults}; raise device.fp32_tolerance or export the model again"
        )
    floor = max(engine.ap50 for engine in right) - config.max_ap50_drop
    accurate = [engine for engine in right if engine.ap50 >= floor]
    rejected.update(
        {e.name: f"ap50 {e.ap50:.4f}, below {floor:.4f}" for e in right if e.ap50 < floor}
    )
    fastest = min(_latency(engine) for engine in accurate)
    chosen = next(e for e in accurate if _latency(e) <= EQUAL_LATENCY * fastest)
    rejected.update(
        {e.name: f"{_latency(e):.2f} ms at best, not faster" for e in accurate if e is not chosen}
    )
    reason = (
        f"{_latency(chosen):.2f} ms at best, the fastest of those with ap50 >= {floor:.4f} "
        f"(the best less {config.max_ap50_drop})"
    )
    return Choice(chosen.runtime, chosen.precision, reason, rejected)


def choice_document(
    choice: Choice, measured: Sequence[Measured], *, machine: Mapping[str, Any], model: ModelInfo
) -> dict[str, Any]:
    """Return the JSON value of results/engines/<target>.json; deploy.models reads its head."""
    return {
        "schema": 1,
        "fingerprint": machine["fingerprint"],
        "machine": machine["machine"],
        "sha256": dict(model.sha256),
        "choice": asdict(choice),
        "engines": [asdict(engine) for engine in measured],
    }


def _latency(engine: Measured) -> float:
    """The least latency: other processes lengthen the median, and not of all engines alike."""
    return engine.detector_ms["min_ms"]


def _output_fault(engine: Measured, config: DeviceConfig) -> str:
    tolerance = config.fp32_tolerance
    if engine.precision != "fp32" or engine.max_difference <= tolerance:
        return ""
    return (
        f"outputs differ by {engine.max_difference:.2g} from {' '.join(REFERENCE)}, "
        f"more than {tolerance:.2g}"
    )


def _crop_hands(info: ModelInfo, image: np.ndarray, frame: Frame) -> np.ndarray:
    """Classifier input (N, 3, h, w) of the labelled hands of a frame."""
    image_wh = (image.shape[1], image.shape[0])
    regions = expand_boxes(frame.truth, info.roi or RoiRule(), image_wh=image_wh)
    crops = crop_regions(image, regions, size_wh=info.input_wh)
    return images_to_batch(list(crops), input_wh=info.input_wh, **info.preprocess._asdict())


def _classes(engine: Any, batch: np.ndarray) -> np.ndarray:
    """Class index (N,) of each hand, one by one to bound the memory."""
    name = next(iter(engine.model.outputs))
    rows = [engine.infer(batch[n : n + 1])[name][0].argmax() for n in range(len(batch))]
    return np.array(rows, np.int64)


def _agreement(classes: np.ndarray, reference: np.ndarray) -> float | None:
    return float((classes == reference).mean()) if len(reference) else None


def _max_difference(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> float:
    return max(float(np.abs(outputs[name] - reference[name]).max()) for name in reference)
