"""Figures of a classifier from its scores: confusion, precision, recall, calibration.

Calibration: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599):
expected calibration error over equal confidence bins, and one temperature that divides the logits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_BINS = 15
# The temperature is looked for in [1 / 5, 5], by golden-section search on its logarithm. Without a
# bound a validation set without a single error would ask for confidences of exactly 1.
LOG_TEMPERATURE_MAX = float(np.log(5.0))
SEARCH_STEPS = 60
GOLDEN = (5**0.5 - 1) / 2


class ClassFigures(NamedTuple):
    """precision, recall: (C,) in [0, 1]; 0 where nothing was predicted, or nothing is there."""

    precision: np.ndarray
    recall: np.ndarray


def softmax(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Turn logits (N, C) into probabilities (N, C) after a division by temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Count pairs: (C, C) int64, rows are the actual class, columns the predicted one."""
    pairs = np.asarray(actual, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_figures(confusion: np.ndarray) -> ClassFigures:
    """Return precision and recall per class of a confusion matrix (C, C)."""
    hits = np.diag(confusion).astype(np.float64)
    num_predicted, num_actual = confusion.sum(axis=0), confusion.sum(axis=1)
    return ClassFigures(hits / np.maximum(num_predicted, 1), hits / np.maximum(num_actual, 1))


def accuracy(confusion: np.ndarray) -> float:
    """Return the share of a confusion matrix that is on its diagonal; 0 when it is empty."""
    return float(np.trace(confusion) / max(int(confusion.sum()), 1))


class CalibrationBins(NamedTuple):
    """By bin of confidence (K,): how many answers, their mean confidence and their accuracy.

    Both are 0 where a bin is empty.
    """

    num_answers: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration_bins(
    probabilities: np.ndarray, class_id: np.ndarray, *, num_bins: int = NUM_BINS
) -> CalibrationBins:
    """Sort answers by confidence into bins (low, high] of equal width.

    probabilities: (N, C); class_id: (N,), the actual classes; N may be 0.
    """
    confidence = probabilities.max(axis=1, initial=0.0)
    is_hit = probabilities.argmax(axis=1) == class_id
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    base = np.maximum(count, 1)
    return CalibrationBins(
        count,
        np.bincount(bins, weights=confidence, minlength=num_bins) / base,
        np.bincount(bins, weights=is_hit, minlength=num_bins) / base,
    )


def expected_calibration_error(
    probabilities: np.ndarray, class_id: np.ndarray, *, num_bins: int = NUM_BINS
) -> float:
    """Return the mean |accuracy - confidence| over bins of equal width, weighted by their counts.

    As calibration_bins; 0 when N is 0.
    """
    bins = calibration_bins(probabilities, class_id, num_bins=num_bins)
    gaps = np.abs(bins.accuracy - bins.confidence) * bins.num_answers
    return float(gaps.sum() / max(len(class_id), 1))


def false_alarm_share(
    probabilities: np.ndarray, class_id: np.ndarray, *, idle: int, threshold: float
) -> float | None:
    """Return which share of the crops of class `idle` would begin a gesture; None without any.

    probabilities: (N, C); threshold: of the runtime's smoother. A hand that is held still begins
    the most probable gesture if that reaches it: the average of equal frames is the frame.
    """
    idle_rows = probabilities[class_id == idle]
    if not len(idle_rows):
        return None
    begins = (idle_rows.argmax(axis=1) != idle) & (idle_rows.max(axis=1) >= threshold)
    return float(begins.mean())


def summarise(
    class_id: np.ndarray, probabilities: np.ndarray, *, names: Sequence[str]
) -> dict[str, object]:
    """Return accuracy, ece and num_crops, and precision and recall per class, for a JSON file.

    class_id: (N,), the actual classes; probabilities: (N, C); names: of the C classes. accuracy is
    0 when N is 0.
    """
    confusion = confusion_matrix(class_id, probabilities.argmax(axis=1), num_classes=len(names))
    figures = class_figures(confusion)
    per_class = [
        {
            "gesture": name,
            "num_crops": int(confusion[index].sum()),
            "precision": float(figures.precision[index]),
            "recall": float(figures.recall[index]),
        }
        for index, name in enumerate(names)
    ]
    return {
        "accuracy": accuracy(confusion),
        "ece": expected_calibration_error(probabilities, class_id),
        "num_crops": len(class_id),
        "per_class": per_class,
    }


def negative_log_likelihood(
    logits: np.ndarray, class_id: np.ndarray, *, temperature: float = 1.0
) -> float:
    """Return the mean -log probability of the actual classes (N,) under logits (N, C); N > 0."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled).sum(axis=1))
    return float((log_sum - scaled[np.arange(len(class_id)), class_id]).mean())


def fit_temperature(logits: np.ndarray, class_id: np.ndarray) -> float:
    """Return the temperature that makes logits (N, C) most likely; 1 when N is 0.

    The likelihood has one minimum in it (its negative is convex in 1 / temperature), so
    golden-section search finds it. Perfect predictions end at the lower bound 1 / 5.
    """
    if len(class_id) == 0:
        return 1.0
    low, high = -LOG_TEMPERATURE_MAX, LOG_TEMPERATURE_MAX
    for _step in range(SEARCH_STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if _loss(logits, class_id, left) <= _loss(logits, class_id, right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(logits: np.ndarray, class_id: np.ndarray, log_temperature: float) -> float:
    return negative_log_likelihood(logits, class_id, temperature=float(np.exp(log_temperature)))
