"""Average precision of one class, as COCO and as TAO define it, and precision and recall.

COCO: pycocotools' COCOeval, bbox, area "all", at most 100 detections per image, precision
interpolated at 101 recalls, IoU 0.50, 0.75 and the mean over 0.50:0.05:0.95.
TAO: DetectNet_v2 evaluation/compute_metrics.py, mode INTEGRATE: whole pixels with the border
included, IoU 0.7, the area under the precision envelope between the first and the last recall.
"""

import math
from typing import List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from deploy.core.boxes import Detections, box_iou, no_detections

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
TAO_IOU = 0.7
# A robot that acts on a hand that is not there does harm, one that misses a hand waits: so what
# counts is how many hands are found while 97 of 100 detections are right.
SURE_PRECISION = 0.97
# Where a hand is, not its exact outline, is what such a robot needs: a box around the hand and a
# piece of the arm counts too.
SURE_IOU = 0.3


class Curve(NamedTuple):
    """Precision and recall (N,) float64 after each detection, most confident first.

    confidence: of each detection, (N,) float64. In Metrics it is the curve at IoU 0.5.
    """

    recall: np.ndarray
    precision: np.ndarray
    confidence: np.ndarray


class OperatingPoint(NamedTuple):
    """Precision, recall and their harmonic mean when only confident detections are kept."""

    confidence_threshold: float
    precision: float
    recall: float
    f1: float


class Metrics(NamedTuple):
    """What evaluate_detections measures; every rate is in [0, 1].

    ap: COCO 0.50:0.95; ap50, ap75; ap_tao: TAO's INTEGRATE at IoU 0.7. precision, recall and f1
    hold at the confidence threshold and IoU 0.5. recall_sure: the largest recall at precision
    SURE_PRECISION or more and SURE_IOU, reached at sure_confidence_threshold. Rates are 0.0 where
    there is no box to find; precision is 0.0 without detections.
    """

    ap: float
    ap50: float
    ap75: float
    ap_tao: float
    precision: float
    recall: float
    f1: float
    recall_sure: float
    sure_confidence_threshold: float
    num_images: int
    num_boxes: int
    curve: Curve


def evaluate_detections(
    predictions: Mapping[str, Detections],
    truths: Mapping[str, np.ndarray],
    *,
    confidence_threshold: float,
    tao_minimum_wh: Tuple[float, float] = (0.0, 0.0),
) -> Metrics:
    """Compare the detections of one class with the true boxes, both by image name.

    truths: xyxy (N, 4) of every image that counts, (0, 4) for one without hands. An image without
    an entry in predictions has no detections; class_id is not looked at. Every detection enters
    the average precisions; confidence_threshold is the operating point of precision and recall.
    tao_minimum_wh: ap_tao alone leaves out smaller boxes, true and found (evaluation_box_config).
    Equal confidences are ordered by image name, then by their order in predictions.
    Raises ValueError for a prediction of an image that truths does not have.
    """
    strangers = sorted(set(predictions) - set(truths))
    if strangers:
        raise ValueError(f"predictions for images without truth: {', '.join(strangers[:5])}")
    stems = sorted(truths)
    found = [predictions.get(stem, no_detections()) for stem in stems]
    boxes = [np.asarray(truths[stem], dtype=np.float64).reshape(-1, 4) for stem in stems]
    num_boxes = sum(len(xyxy) for xyxy in boxes)
    confidence, hits = match_detections(found, boxes, np.append(COCO_IOUS, SURE_IOU))
    aps = [coco_average_precision(row, num_boxes) for row in hits[:-1]]
    curve = precision_recall(confidence, hits[0], num_boxes)
    point = operating_point(curve, confidence_threshold)
    sure = recall_at_precision(precision_recall(confidence, hits[-1], num_boxes), SURE_PRECISION)
    return Metrics(
        ap=float(np.mean(aps)),
        ap50=aps[0],
        ap75=aps[5],
        ap_tao=tao_average_precision(found, boxes, minimum_wh=tao_minimum_wh),
        precision=point.precision,
        recall=point.recall,
        f1=point.f1,
        recall_sure=sure.recall,
        sure_confidence_threshold=sure.confidence_threshold,
        num_images=len(stems),
        num_boxes=num_boxes,
        curve=curve,
    )


def match_detections(
    found: Sequence[Detections], truths: Sequence[np.ndarray], ious: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Say which detections are right, all images together, the most confident first.

    Per image the 100 most confident count; in that order each takes the free true box that it
    overlaps most, if by at least the wanted IoU (of equal overlaps the last box, as COCOeval).
    ious: (T,). Returns confidence (N,) float64 and hits (T, N) bool.
    """
    confidences, hits = [np.zeros(0)], [np.zeros((len(ious), 0), dtype=bool)]
    for detections, xyxy in zip(found, truths):
        order = np.argsort(-detections.confidence, kind="stable")[:MAX_DETECTIONS]
        iou = box_iou(detections.xyxy[order].astype(np.float64), xyxy)  # (N, M)
        confidences.append(detections.confidence[order].astype(np.float64))
        hits.append(_match_image(iou, ious))
    confidence = np.concatenate(confidences)
    order = np.argsort(-confidence, kind="stable")
    return confidence[order], np.concatenate(hits, axis=1)[:, order]


def coco_average_precision(hits: np.ndarray, num_boxes: int) -> float:
    """Return COCO's AP of hits (N,) bool, most confident first; 0.0 when there is no box."""
    if not num_boxes:
        return 0.0
    right = np.cumsum(hits)
    recall = right / num_boxes
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(recall, COCO_RECALLS, side="left")  # (101,)
    return float(np.append(envelope, 0.0)[np.minimum(first, len(hits))].mean())


def tao_average_precision(
    found: Sequence[Detections],
    truths: Sequence[np.ndarray],
    *,
    minimum_wh: Tuple[float, float] = (0.0, 0.0),
) -> float:
    """Return TAO's AP (INTEGRATE), in [0, 1] where TAO reports percent; 0.0 when there is no box.

    Each detection looks only at the true box that it overlaps most: below IoU 0.7, or when a more
    confident detection has taken that box, it is wrong. The area left of the first recall does not
    count, so that a perfect detector of N boxes gets (N - 1) / N.
    """
    confidences, hits, num_boxes = [np.zeros(0)], [np.zeros(0, dtype=bool)], 0
    for detections, xyxy in zip(found, truths):
        order = np.argsort(-detections.confidence, kind="stable")
        order = order[_is_large(detections.xyxy[order], minimum_wh)]
        boxes = xyxy[_is_large(xyxy, minimum_wh)]
        num_boxes += len(boxes)
        confidences.append(detections.confidence[order].astype(np.float64))
        hits.append(_match_image_tao(detections.xyxy[order], boxes))
    order = np.argsort(-np.concatenate(confidences), kind="stable")
    return _integrate(np.concatenate(hits)[order], num_boxes)


def precision_recall(confidence: np.ndarray, hits: np.ndarray, num_boxes: int) -> Curve:
    """Return the curve of hits (N,) bool, which are ordered by descending confidence (N,)."""
    right = np.cumsum(hits)
    return Curve(right / max(num_boxes, 1), right / np.arange(1, len(hits) + 1), confidence)


def operating_point(curve: Curve, confidence_threshold: float) -> OperatingPoint:
    """Read precision and recall at a threshold; detections at the threshold itself are kept."""
    kept = int(np.count_nonzero(curve.confidence >= confidence_threshold))
    if not kept:
        return OperatingPoint(confidence_threshold, 0.0, 0.0, 0.0)
    precision, recall = float(curve.precision[kept - 1]), float(curve.recall[kept - 1])
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return OperatingPoint(confidence_threshold, precision, recall, f1)


def best_operating_point(curve: Curve) -> OperatingPoint:
    """Return the point with the highest F1, of equal ones the highest threshold."""
    if not len(curve.confidence):
        return OperatingPoint(0.0, 0.0, 0.0, 0.0)
    total = curve.precision + curve.recall
    f1 = 2 * curve.precision * curve.recall / np.where(total > 0, total, 1.0)
    best = int(np.argmax(np.where(_is_last_of_equals(curve.confidence), f1, -1.0)))
    return operating_point(curve, float(curve.confidence[best]))


def recall_at_precision(curve: Curve, precision: float) -> OperatingPoint:
    """Return the point with the largest recall whose precision is at least the wanted one.

    Of equal recalls it is the one with the lowest threshold. When no point is so precise, every
    rate is 0.0, and the threshold is the next whole number above all confidences, which keeps
    nothing.
    """
    is_allowed = _is_last_of_equals(curve.confidence) & (curve.precision >= precision)
    allowed = np.flatnonzero(is_allowed)
    if not len(allowed):
        highest = float(curve.confidence[0]) if len(curve.confidence) else 0.0
        return OperatingPoint(math.floor(highest) + 1.0, 0.0, 0.0, 0.0)
    # Recall never falls along the curve, so that the last point has the most.
    return operating_point(curve, float(curve.confidence[allowed[-1]]))


def _is_last_of_equals(confidence: np.ndarray) -> np.ndarray:
    """Say behind which of descending confidences (N,) a threshold cuts: never between equals."""
    return np.append(confidence[1:] != confidence[:-1], True)[: len(confidence)]


def _match_image(iou: np.ndarray, ious: np.ndarray) -> np.ndarray:
    """Match the ordered detections of one image, iou (N, M), at each of ious (T,): (T, N) bool."""
    num_detections, num_truths = iou.shape
    hits = np.zeros((len(ious), num_detections), dtype=bool)
    if not num_truths:
        return hits
    wanted = np.minimum(ious, 1 - 1e-10)[:, None]  # (T, 1)
    free = np.ones((len(ious), num_truths), dtype=bool)
    rows = np.arange(len(ious))
    for index in np.flatnonzero(iou.max(axis=1) >= wanted.min()):
        allowed = free & (iou[index] >= wanted)  # (T, M)
        overlap = np.where(allowed, iou[index], -1.0)
        best = num_truths - 1 - overlap[:, ::-1].argmax(axis=1)  # (T,)
        hits[:, index] = allowed[rows, best]
        free[rows, best] &= ~hits[:, index]
    return hits


def _is_large(xyxy: np.ndarray, minimum_wh: Tuple[float, float]) -> np.ndarray:
    wide = xyxy[:, 2] - xyxy[:, 0] >= minimum_wh[0]
    return wide & (xyxy[:, 3] - xyxy[:, 1] >= minimum_wh[1])


def _match_image_tao(found: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Match ordered boxes (N, 4) with truths (M, 4), TAO's way: (N,) bool."""
    hits = np.zeros(len(found), dtype=bool)
    if not len(found) or not len(truths):
        return hits
    # The border pixel counts: TAO adds 1 to each side, here to x_max and y_max.
    border = np.array([0.0, 0.0, 1.0, 1.0])
    iou = box_iou(np.rint(found.astype(np.float64)) + border, np.rint(truths) + border)  # (N, M)
    taken: List[int] = []
    for index, best in enumerate(iou.argmax(axis=1)):
        if iou[index, best] >= TAO_IOU and best not in taken:
            hits[index] = True
            taken.append(int(best))
    return hits


def _integrate(hits: np.ndarray, num_boxes: int) -> float:
    if not num_boxes or not len(hits):
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    recall, first = np.unique(right / num_boxes, return_index=True)
    area, envelope = 0.0, 0.0
    for index in range(len(recall) - 2, -1, -1):
        envelope = max(float(precision[first[index] : first[index + 1]].max()), envelope)
        area += envelope * (recall[index + 1] - recall[index])
    return float(area)
