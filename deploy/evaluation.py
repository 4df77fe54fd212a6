"""Measure a detector, whatever runs it: PyTorch, ONNX Runtime, OpenVINO and TensorRT alike.

The detector is a function `infer(batch) -> {tensor name: array}` and its model.json.
"""

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from deploy.core.average_precision import Metrics, best_operating_point, evaluate_detections
from deploy.core.boxes import Detections, take_detections
from deploy.core.cluster import Postprocess, postprocess_maps
from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.core.preprocess import images_to_batch
from deploy.frames import Frame, group_by_video, read_image

NUM_WARM_UP = 3

Infer = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Progress = Callable[[int, int], None]


class Evaluation(NamedTuple):
    """Metrics of all frames, metrics per video, and the detections by stem."""

    metrics: Metrics
    per_video: Mapping[str, Metrics]
    predictions: Mapping[str, Detections]


class Speed(NamedTuple):
    """Milliseconds per image at batch 1, the JPEG decoding left out.

    total is preprocessing, network and post-processing of one image; infer the network alone.
    """

    total_ms_p50: float
    total_ms_p90: float
    total_ms_p99: float
    infer_ms_p50: float
    num_images: int


def evaluate_model(
    infer: Infer,
    info: ModelInfo,
    frames: Sequence[Frame],
    *,
    postprocess: Optional[Postprocess] = None,
    videos: Optional[Mapping[str, str]] = None,
    batch_size: int = 1,
    progress: Optional[Progress] = None,
) -> Evaluation:
    """Detect in every frame and compare with the truth.

    infer: batch (B, 3, H, W) float32 -> output arrays by tensor name; info: its model.json.
    postprocess: by default info's. videos: the video of each stem, by default told from the stem.
    progress: called with (frames done, frames) after each batch.
    """
    constants = postprocess or info.postprocess
    if constants is None:
        raise DeployError(f"model {info.name} is a {info.kind}; give the folder of a detector")
    predictions = {}
    for start in range(0, len(frames), batch_size):
        batch = frames[start : start + batch_size]
        images = [read_image(frame.image_path) for frame in batch]
        for frame, found in zip(batch, detect(infer, info, images, constants)):
            predictions[frame.stem] = found
        if progress:
            progress(len(predictions), len(frames))
    threshold = constants.confidence_threshold
    groups = group_by_video([frame.stem for frame in frames], videos)
    truths = {frame.stem: frame.truth for frame in frames}
    per_video = {
        video: _evaluate(stems, predictions, truths, threshold) for video, stems in groups.items()
    }
    metrics = _evaluate(sorted(truths), predictions, truths, threshold)
    return Evaluation(metrics, per_video, predictions)


def detect(
    infer: Infer, info: ModelInfo, images_bgr: Sequence[np.ndarray], postprocess: Postprocess
) -> List[Detections]:
    """Return the detections of each image in its own pixels, below confidence_threshold too."""
    assert info.grid is not None  # model.json's schema wants one for detectors
    how = info.preprocess
    batch = images_to_batch(images_bgr, input_wh=info.input_wh, **how._asdict())
    outputs = infer(batch)
    coverage_name, bbox_name = info.map_names
    return [
        postprocess_maps(
            coverage,
            bbox,
            info.grid,
            postprocess,
            input_wh=info.input_wh,
            image_wh=(image.shape[1], image.shape[0]),
            apply_confidence_threshold=False,
            resize=how.resize,
        )
        for image, coverage, bbox in zip(images_bgr, outputs[coverage_name], outputs[bbox_name])
    ]


def measure_speed(
    infer: Infer, info: ModelInfo, frames: Sequence[Frame], *, num_images: int
) -> Speed:
    """Time the detector on the first num_images frames, after three to warm up, one at a time.

    Returns zeros when there is no frame.
    """
    if not frames or not num_images:
        return Speed(0.0, 0.0, 0.0, 0.0, 0)
    assert info.postprocess is not None  # model.json's schema wants one for detectors
    infer_ms: List[float] = []

    def timed(batch: np.ndarray) -> Mapping[str, np.ndarray]:
        started = time.perf_counter()
        outputs = infer(batch)
        infer_ms.append(1e3 * (time.perf_counter() - started))
        return outputs

    total_ms: List[float] = []
    order = [*frames[:NUM_WARM_UP], *frames[:num_images]]
    for frame in order:
        image = read_image(frame.image_path)
        started = time.perf_counter()
        detect(timed, info, [image], info.postprocess)
        total_ms.append(1e3 * (time.perf_counter() - started))
    num_skipped = min(NUM_WARM_UP, len(frames))
    p50, p90, p99 = (float(v) for v in np.percentile(total_ms[num_skipped:], [50, 90, 99]))
    infer_p50 = float(np.median(infer_ms[num_skipped:]))
    return Speed(p50, p90, p99, infer_p50, len(order) - num_skipped)


def metrics_document(evaluation: Evaluation) -> Dict[str, Any]:
    """Return the figures as plain values: ap, ap50, ..., best_f1, and per_video, a list of rows.

    Rows, not a mapping by video: a table of metrics then has no column per video.
    """
    document = _figures(evaluation.metrics)
    best = best_operating_point(evaluation.metrics.curve)
    document["best_f1"] = best.f1
    document["best_confidence_threshold"] = best.confidence_threshold
    document["per_video"] = [
        dict(_figures(metrics), video=video)
        for video, metrics in sorted(evaluation.per_video.items())
    ]
    return document


def curve_points(metrics: Metrics, *, limit: int = 200) -> List[Dict[str, float]]:
    """Return the precision-recall curve as records, thinned evenly to at most limit points."""
    count = len(metrics.curve.recall)
    index = np.unique(np.linspace(0, max(count - 1, 0), min(limit, count)).astype(int))
    fields = metrics.curve._asdict().items()
    return [{name: round(float(values[n]), 6) for name, values in fields} for n in index]


def _evaluate(
    stems: Sequence[str],
    predictions: Mapping[str, Detections],
    truths: Mapping[str, np.ndarray],
    confidence_threshold: float,
) -> Metrics:
    # The truth is of the model's first class alone (hand).
    hands = {
        stem: take_detections(predictions[stem], predictions[stem].class_id == 0) for stem in stems
    }
    return evaluate_detections(
        hands, {stem: truths[stem] for stem in stems}, confidence_threshold=confidence_threshold
    )


def _figures(metrics: Metrics) -> Dict[str, Any]:
    return {name: value for name, value in metrics._asdict().items() if name != "curve"}
