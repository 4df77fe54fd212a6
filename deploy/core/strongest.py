"""NMS of a few cells, the strongest of which alone makes a detection, in plain Python.

Where a network is sure of its hands a frame has about ten cells over the threshold. For so few
numbers a call of NumPy costs more than its work, and this takes a sixth of the time of the arrays
in deploy.core.cluster. The same comes out, with one exception: overlaps and heights are worked out
in float64 here and in float32 there, so that an overlap may be judged otherwise that is as good as
equal to iou_threshold, and a height that is as good as equal to minimum_box_height.
"""

import math
from typing import Iterable, List, Tuple

import numpy as np

from deploy.core.boxes import Detections, WidthHeight, no_detections
from deploy.core.nesting import Cell, prefer_inner
from deploy.core.preprocess import affine_to_input

# Each further cell is compared with every detection so far: with more of them arrays are faster.
FEW_CELLS = 64

Edges = Tuple[float, float, float, float]


def keep_strongest(
    edges: np.ndarray,
    confidence: np.ndarray,
    class_id: np.ndarray,
    *,
    input_wh: WidthHeight,
    iou_threshold: float,
    minimum_box_height: float,
    inner_confidence: float = 0.0,
    least_confidence: float = 0.0,
) -> List[Cell]:
    """Return the cells that no stronger cell of their class overlaps by more than iou_threshold.

    edges: (4, N) float32, left, top, right and bottom in network-input pixels; confidence,
    class_id: (N,). Boxes are clipped to the network input first; those that are not finite and, at
    last, those of minimum_box_height or less are left out. With inner_confidence boxes give way
    to inner ones (see prefer_inner), and those at or below least_confidence go after that. The
    most confident comes first, ties by class and then by box.
    """
    cells = [
        (-score, kind) + _clip((left, top, right, bottom), input_wh)
        for score, kind, left, top, right, bottom in zip(
            confidence.tolist(), class_id.tolist(), *edges.tolist()
        )
        if math.isfinite(left + top + right + bottom)
    ]
    cells.sort()
    kept: List[Cell] = []
    for cell in cells:
        if not _is_suppressed(cell, kept, iou_threshold):
            kept.append(cell)
    kept = [cell for cell in kept if cell[5] - cell[3] > minimum_box_height]
    if inner_confidence <= 0.0:
        return kept
    return [c for c in prefer_inner(kept, inner_confidence) if -c[0] > least_confidence]


def cells_to_image(
    cells: List[Cell], *, input_wh: WidthHeight, image_wh: WidthHeight, resize: str
) -> Detections:
    """Return the detections of cells in the pixels of the image, clipped to it, in their order.

    A quotient of two float32 that is rounded from float64 is the float32 quotient, and what a
    letterbox takes off is exact wherever the result is not clipped: these are the numbers of
    boxes_to_image and clip_boxes.
    """
    if not cells:
        return no_detections()
    x_ratio, y_ratio, x_corner, y_corner = affine_to_input(
        tuple(image_wh), tuple(input_wh), resize
    )
    xyxy = [
        _clip(
            (
                (left - x_corner) / x_ratio,
                (top - y_corner) / y_ratio,
                (right - x_corner) / x_ratio,
                (bottom - y_corner) / y_ratio,
            ),
            image_wh,
        )
        for _, _, left, top, right, bottom in cells
    ]
    return Detections(
        np.array(xyxy, np.float32),
        np.array([-cell[0] for cell in cells], np.float32),
        np.array([cell[1] for cell in cells], np.int64),
    )


def _clip(edges: Edges, wh: WidthHeight) -> Edges:
    """As clip_boxes does."""
    left, top, right, bottom = edges
    width, height = wh
    if 0 <= left <= right <= width and 0 <= top <= bottom <= height:
        return edges
    left, top = min(max(left, 0.0), width), min(max(top, 0.0), height)
    return left, top, min(max(right, left), width), min(max(bottom, top), height)


def _is_suppressed(cell: Cell, kept: Iterable[Cell], iou_threshold: float) -> bool:
    """Whether a kept cell of the same class overlaps this one by more than iou_threshold."""
    _, kind, left, top, right, bottom = cell
    area = (right - left) * (bottom - top)
    for _, other_kind, other_left, other_top, other_right, other_bottom in kept:
        # Most pairs have nothing in common, and comparisons alone are quick.
        if other_kind != kind or other_left >= right or other_right <= left:
            continue
        # As min and max would, in half of their time.
        width = (right if right < other_right else other_right) - (
            left if left > other_left else other_left
        )
        height = (bottom if bottom < other_bottom else other_bottom) - (
            top if top > other_top else other_top
        )
        if height <= 0:
            continue
        shared = width * height
        union = area + (other_right - other_left) * (other_bottom - other_top) - shared
        if shared / union > iou_threshold:
            return True
    return False
