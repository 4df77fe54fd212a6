"""Box arithmetic on xyxy arrays: x_min, y_min, x_max, y_max in pixels, float32, shape (N, 4).

Coordinates are continuous: a box that covers one whole pixel is 1 wide. Nothing writes into its
arguments.
"""

from typing import List, NamedTuple, Sequence, Tuple, Union

import numpy as np

WidthHeight = Tuple[int, int]


class Detections(NamedTuple):
    """Boxes of one image: xyxy (N, 4) float32, confidence (N,) float32, class_id (N,) int64."""

    xyxy: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray


def no_detections() -> Detections:
    """Return Detections without a box, of the right shapes and types."""
    return Detections(
        np.zeros((0, 4), np.float32), np.zeros((0,), np.float32), np.zeros((0,), np.int64)
    )


def take_detections(detections: Detections, index: np.ndarray) -> Detections:
    """Select (and order) detections by a boolean mask or an array of indices."""
    return Detections(*(field[index] for field in detections))


def as_xyxy(boxes: Union[np.ndarray, Sequence[Sequence[float]]]) -> np.ndarray:
    """Make a float32 (N, 4) array of any sequence of boxes, an empty one included.

    Raises ValueError when the boxes do not have four numbers each.
    """
    xyxy = np.asarray(boxes, dtype=np.float32)
    if xyxy.size == 0:
        return np.zeros((0, 4), dtype=np.float32)
    if xyxy.ndim != 2 or xyxy.shape[1] != 4:
        raise ValueError(f"boxes have shape {xyxy.shape}; expected (N, 4)")
    return xyxy


def clip_boxes(xyxy: np.ndarray, image_wh: WidthHeight) -> np.ndarray:
    """Clip each box to [0, width] x [0, height], in a new array; NaN stays NaN.

    xyxy: (N, 4). x_max is never below x_min afterwards (nor y_max below y_min): an inverted box
    and one outside the image become boxes without area, as in TAO's decoder.
    """
    width, height = image_wh
    upper = np.array([width, height], dtype=np.float32)
    low = np.minimum(np.maximum(xyxy[:, :2], np.float32(0.0)), upper)  # (N, 2)
    high = np.minimum(np.maximum(xyxy[:, 2:], low), upper)  # (N, 2)
    return np.concatenate([low, high], axis=1).astype(np.float32, copy=False)  # (N, 4)


def box_area(xyxy: np.ndarray) -> np.ndarray:
    """Return width times height, (N,); 0 for an inverted box."""
    width = np.maximum(xyxy[:, 2] - xyxy[:, 0], 0.0)
    height = np.maximum(xyxy[:, 3] - xyxy[:, 1], 0.0)
    return width * height


def box_intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the area that each box of a (N, 4) shares with each box of b (M, 4): (N, M)."""
    # One coordinate at a time: five times faster than broadcasting (N, M, 2).
    width = np.minimum(a[:, 2, None], b[:, 2]) - np.maximum(a[:, 0, None], b[:, 0])  # (N, M)
    height = np.minimum(a[:, 3, None], b[:, 3]) - np.maximum(a[:, 1, None], b[:, 1])  # (N, M)
    return np.maximum(width, 0.0) * np.maximum(height, 0.0)


def box_iou(a: np.ndarray, b: np.ndarray, *, denominator_eps: float = 0.0) -> np.ndarray:
    """Return intersection over union of each box of a (N, 4) with each of b (M, 4): (N, M).

    denominator_eps is added to the union (TAO's clustering adds 1e-5). Touching boxes have 0, two
    boxes without area have 0 even when they are equal; the result is symmetric and in [0, 1].
    """
    shared = box_intersection(a, b)
    union = box_area(a)[:, None] + box_area(b) - shared + denominator_eps
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def few_ious(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> List[List[float]]:
    """Return what box_iou gives for the same boxes in float64, a row for each box of a.

    In plain Python, which for a few boxes is quicker than arrays. A box with NaN has 0 with any.
    """
    rows = []
    for left, top, right, bottom in a:
        row = []
        for other_left, other_top, other_right, other_bottom in b:
            # Most pairs have nothing in common, and comparisons alone are quick.
            if other_left >= right or other_right <= left:
                row.append(0.0)
                continue
            width = min(right, other_right) - max(left, other_left)
            height = min(bottom, other_bottom) - max(top, other_top)
            if width <= 0 or height <= 0:
                row.append(0.0)
                continue
            shared = width * height
            area = (right - left) * (bottom - top)
            union = area + (other_right - other_left) * (other_bottom - other_top) - shared
            row.append(shared / union if union > 0 else 0.0)  # NaN is not more than 0
        rows.append(row)
    return rows


def scale_boxes(xyxy: np.ndarray, from_wh: WidthHeight, to_wh: WidthHeight) -> np.ndarray:
    """Map boxes from an image of from_wh to the same image stretched to to_wh, (N, 4) float32."""
    x_ratio = to_wh[0] / from_wh[0]
    y_ratio = to_wh[1] / from_wh[1]
    ratio = np.array([x_ratio, y_ratio, x_ratio, y_ratio], dtype=np.float32)
    return (xyxy * ratio).astype(np.float32, copy=False)
