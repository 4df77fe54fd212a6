"""Group the confident cells of one image into detections: DBSCAN as in TAO, or NMS.

Source: NVIDIA TAO Toolkit, DetectNet_v2 postprocessor/cluster.py (DBSCAN over 1 - IoU, weighted by
coverage); M. Ester et al., "A density-based algorithm for discovering clusters", KDD 1996.
"""

import functools
from typing import NamedTuple, Tuple

import numpy as np

from deploy.core.boxes import (
    Detections,
    WidthHeight,
    box_iou,
    clip_boxes,
    no_detections,
    take_detections,
)
from deploy.core.grid import Grid, decode_cells, find_cells, take_cells
from deploy.core.nesting import prefer_inner
from deploy.core.preprocess import boxes_to_image
from deploy.core.strongest import FEW_CELLS, cells_to_image, keep_strongest

CLUSTERS = ("dbscan", "nms")
CONFIDENCES = ("sum", "mean", "max")
# More cells than this say nothing new (a 960x544 input has 2,040) and IoU is quadratic.
MAX_CELLS = 1000
# TAO adds this to the denominator of IoU while clustering.
IOU_DENOMINATOR_EPS = 1e-5
NOISE = -1
# The way of clustering in which the strongest cell alone makes a detection.
STRONGEST = ("nms", "max")


class Postprocess(NamedTuple):
    """The constants between output maps and detections; conf/postprocess holds the values.

    cluster: "dbscan" (box = coverage-weighted mean of the cluster) or "nms" (box of the strongest
    cell, the cluster being it and the cells that it suppresses).
    coverage_threshold: cells at or below it are ignored, in [0, 1]. Every detection that is left
    enters average precision.
    eps: dbscan, largest distance 1 - IoU of neighbours. min_samples: dbscan, a cell is core when
    the coverage within eps (its own included) sums to at least max(int(min_samples), 1): TAO 5
    reads an integer of at least 1, so that the demo's 0.05 means 1.
    iou_threshold: nms, cells that overlap a kept one by more are suppressed.
    confidence: of the cluster's coverage the "sum" (TAO's aggregate_cov, may exceed 1), the "mean"
    or the "max".
    confidence_threshold: operating point of the runtime, of precision and recall.
    minimum_box_height: network-input pixels; boxes of this height or less are dropped.
    inner_confidence: a box gives way to a much smaller one in it that has at least this share of
    its confidence, in [0, 1] (see deploy.core.nesting); 0 = none does.
    """

    cluster: str
    coverage_threshold: float
    eps: float
    min_samples: float
    iou_threshold: float
    confidence: str
    confidence_threshold: float
    minimum_box_height: float
    inner_confidence: float = 0.0


def check_postprocess(postprocess: Postprocess) -> Postprocess:
    """Return it unchanged, or raise ValueError naming the field, its value and what is allowed."""
    _check_choice("cluster", postprocess.cluster, CLUSTERS)
    _check_choice("confidence", postprocess.confidence, CONFIDENCES)
    for name in ("coverage_threshold", "eps", "iou_threshold", "inner_confidence"):
        value = getattr(postprocess, name)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"postprocess.{name} is {value}; expected 0 to 1")
    for name in ("min_samples", "confidence_threshold", "minimum_box_height"):
        value = getattr(postprocess, name)
        if not 0.0 <= value < float("inf"):
            raise ValueError(f"postprocess.{name} is {value}; expected 0 or more")
    return postprocess


def dbscan(
    distance: np.ndarray, weights: np.ndarray, *, eps: float, min_samples: float
) -> np.ndarray:
    """Label each point with its cluster, 0 and up, or NOISE (-1): (N,) int64.

    distance: (N, N) symmetric; weights: (N,). A point is core when the weights of all points
    within eps (distance <= eps; itself too, if its own distance is) sum to at least min_samples.
    Clusters are numbered by their first core point; a border point between two belongs to the
    lower number.
    Equal to sklearn.cluster.DBSCAN(metric="precomputed") with sample_weight.
    """
    near = distance <= eps  # (N, N)
    core = np.flatnonzero(near.dot(np.asarray(weights, dtype=np.float64)) >= min_samples)  # (K,)
    if not len(core):
        return np.full(len(near), NOISE, dtype=np.int64)
    clusters = _components(near[core][:, core])  # (K,)
    lowest = np.where(near[:, core], clusters, len(core)).min(axis=1)  # (N,)
    labels = np.where(lowest < len(core), lowest, NOISE)
    labels[core] = clusters
    return labels


def suppress(iou: np.ndarray, *, iou_threshold: float) -> np.ndarray:
    """Label each box with the kept box that suppresses it, in order of strength: (N,) int64.

    iou: (N, N), rows from the strongest box to the weakest. Box i is kept when no kept box before
    it overlaps it by more than iou_threshold. Labels count the kept boxes: 0, 1, ...
    """
    overlaps = iou > iou_threshold  # (N, N)
    labels = np.full(len(iou), NOISE, dtype=np.int64)
    num_kept = 0
    for index in range(len(iou)):
        if labels[index] == NOISE:
            labels[overlaps[index] & (labels == NOISE)] = num_kept
            labels[index] = num_kept
            num_kept += 1
    return labels


def cluster_detections(
    cells: Detections, postprocess: Postprocess, *, apply_confidence_threshold: bool = False
) -> Detections:
    """Merge the cells of one image into detections, class by class, the most confident first.

    cells: as from decode_cells, in any order, usually clipped. The order of the cells does not
    change the result: they are sorted by coverage, then by box. Only the strongest MAX_CELLS of a
    class count. Ties of confidence are ordered by class, then by strongest cell. No cells: no
    detections.
    """
    kinds = sorted(set(cells.class_id.tolist()))
    if not kinds:
        return no_detections()
    if len(kinds) == 1:
        merged = _cluster_class(cells, postprocess, kinds[0])
    else:
        parts = [
            _cluster_class(take_detections(cells, cells.class_id == kind), postprocess, kind)
            for kind in kinds
        ]
        merged = Detections(*(np.concatenate(fields) for fields in zip(*parts)))
    keep = merged.xyxy[:, 3] - merged.xyxy[:, 1] > postprocess.minimum_box_height
    if postprocess.inner_confidence > 0.0:
        merged = _prefer_inner(take_detections(merged, keep), postprocess.inner_confidence)
        keep = np.ones(len(merged.xyxy), bool)
    if apply_confidence_threshold:
        keep &= merged.confidence >= postprocess.confidence_threshold
    order = np.argsort(-merged.confidence, kind="stable")
    return take_detections(merged, order[keep[order]])


def postprocess_maps(
    coverage: np.ndarray,
    bbox: np.ndarray,
    grid: Grid,
    postprocess: Postprocess,
    *,
    input_wh: WidthHeight,
    image_wh: WidthHeight,
    apply_confidence_threshold: bool,
    resize: str = "stretch",
) -> Detections:
    """Turn the output maps of one image into detections in that image's pixels, clipped to it.

    coverage: (C, H, W); bbox: (4 * C, H, W); resize: how the image was brought to input_wh.
    Cells are clipped to the network input before they are merged, as in TAO. Few cells, of
    which the strongest alone counts, are left to deploy.core.strongest, which says what differs.
    """
    threshold = postprocess.coverage_threshold
    is_strongest = (postprocess.cluster, postprocess.confidence) == STRONGEST
    if apply_confidence_threshold and is_strongest:
        # A cell below the threshold can neither be a detection nor change a stronger one: without
        # them there are ten cells instead of two hundred to compare with each other. A weaker one
        # may still be in the box of a detection.
        share = postprocess.inner_confidence or 1.0
        threshold = max(threshold, _largest_below(share * postprocess.confidence_threshold))
    place = find_cells(coverage, bbox, coverage_threshold=threshold)
    if not len(place):
        return no_detections()
    if is_strongest and len(place) <= FEW_CELLS:
        kept = keep_strongest(
            *take_cells(coverage, bbox, grid, place),
            input_wh=input_wh,
            iou_threshold=postprocess.iou_threshold,
            minimum_box_height=postprocess.minimum_box_height,
            inner_confidence=postprocess.inner_confidence,
            least_confidence=(
                _largest_below(postprocess.confidence_threshold)
                if apply_confidence_threshold
                else 0.0
            ),
        )
        return cells_to_image(kept, input_wh=input_wh, image_wh=image_wh, resize=resize)
    cells = decode_cells(coverage, bbox, grid, coverage_threshold=threshold)
    cells = cells._replace(xyxy=clip_boxes(cells.xyxy, input_wh))
    found = cluster_detections(
        cells, postprocess, apply_confidence_threshold=apply_confidence_threshold
    )
    xyxy = boxes_to_image(found.xyxy, input_wh=input_wh, image_wh=image_wh, resize=resize)
    return found._replace(xyxy=clip_boxes(xyxy, image_wh))


@functools.lru_cache(maxsize=16)
def _largest_below(value: float) -> float:
    """Return the largest float32 below a value: x > it is x >= value, as float32."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


def _prefer_inner(found: Detections, inner_confidence: float) -> Detections:
    """As prefer_inner, on arrays."""
    fields = (-found.confidence, found.class_id) + tuple(found.xyxy.T)
    cells = prefer_inner(sorted(zip(*(f.tolist() for f in fields))), inner_confidence)
    if not cells:
        return no_detections()
    minus_confidence, class_id, *edges = zip(*cells)
    return Detections(
        np.array(edges, np.float32).T,
        -np.array(minus_confidence, np.float32),
        np.array(class_id, np.int64),
    )


def _check_choice(name: str, value: str, known: Tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError("postprocess.{} is {!r}; known: {}".format(name, value, ", ".join(known)))


def _components(near: np.ndarray) -> np.ndarray:
    """Number the connected components of a symmetric graph (K, K) by their first node: (K,)."""
    # The lowest label among the neighbours spreads; jumping to that node's own label makes the
    # number of rounds grow with the logarithm of a component's diameter.
    labels = np.arange(len(near))
    while True:
        lowest = np.minimum(np.where(near, labels, len(near)).min(axis=1), labels)
        lowest = lowest[lowest]
        if np.array_equal(lowest, labels):
            return np.unique(labels, return_inverse=True)[1].astype(np.int64, copy=False)
        labels = lowest


def _cluster_class(cells: Detections, postprocess: Postprocess, kind: int) -> Detections:
    """Merge cells that are all of one class."""
    x_min, y_min, x_max, y_max = cells.xyxy.T
    order = np.lexsort((y_max, x_max, y_min, x_min, -cells.confidence))[:MAX_CELLS]
    mine = take_detections(cells, order)
    if postprocess.cluster == "nms":
        iou = box_iou(mine.xyxy, mine.xyxy)
        labels = suppress(iou, iou_threshold=postprocess.iou_threshold)
    else:
        iou = box_iou(mine.xyxy, mine.xyxy, denominator_eps=IOU_DENOMINATOR_EPS)
        min_samples = max(int(postprocess.min_samples), 1)
        labels = dbscan(1.0 - iou, mine.confidence, eps=postprocess.eps, min_samples=min_samples)
    return _merge(mine, labels, postprocess, kind)


def _merge(
    cells: Detections, labels: np.ndarray, postprocess: Postprocess, kind: int
) -> Detections:
    """Make one detection of each label; cells are ordered from the strongest to the weakest."""
    names, first = np.unique(labels, return_index=True)
    names, first = names[names != NOISE], first[names != NOISE]
    weight = (labels == names[:, None]) * cells.confidence.astype(np.float64)  # (K, N)
    total = weight.sum(axis=1)  # (K,)
    if postprocess.cluster == "nms":
        xyxy = cells.xyxy[first]
    else:
        xyxy = (weight.dot(cells.xyxy.astype(np.float64)) / total[:, None]).astype(np.float32)
    if postprocess.confidence == "max":
        confidence = weight.max(axis=1) if len(weight) else total
    elif postprocess.confidence == "mean":
        confidence = total / (weight > 0).sum(axis=1)
    else:
        confidence = total
    class_id = np.full(len(names), kind, dtype=np.int64)
    return Detections(xyxy, confidence.astype(np.float32), class_id)
