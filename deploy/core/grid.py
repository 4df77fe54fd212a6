"""The DetectNet_v2 output grid: one cell per stride x stride pixels of the network input.

Source: NVIDIA TAO Toolkit, DetectNet_v2, bbox_objective.predictions_to_absolute: the anchor of
cell (row, column) is (stride * column + offset, stride * row + offset); a box is the anchor and
its distances to the left, top, right and bottom edge in units of scale pixels.
"""

from typing import NamedTuple

import numpy as np

from deploy.core.boxes import Detections, no_detections


class Grid(NamedTuple):
    """Geometry of the output maps, in network-input pixels."""

    stride: int = 16
    scale: float = 35.0
    offset: float = 0.5


def decode_cells(
    coverage: np.ndarray, bbox: np.ndarray, grid: Grid, *, coverage_threshold: float
) -> Detections:
    """Turn DetectNet_v2 output maps into candidate boxes, one per confident cell.

    coverage: (C, H, W) float32 in [0, 1]; bbox: (4 * C, H, W) float32, class-major, distances from
    the cell's anchor to left, top, right, bottom in units of grid.scale pixels.
    Returns xyxy (N, 4) in network-input pixels, confidence (N,) = coverage, class_id (N,), ordered
    by class, row, column; N is 0 when no cell is above coverage_threshold. Boxes are not clipped.
    A cell whose coverage is NaN or whose box is not finite is left out.
    Source: NVIDIA TAO Toolkit, DetectNet_v2 (bbox scale 35, offset 0.5).
    Raises ValueError when the shapes of the two maps do not belong together.
    """
    num_classes, height, width = coverage.shape
    expected = (4 * num_classes, height, width)
    if bbox.shape != expected:
        raise ValueError(f"bbox is {bbox.shape}; expected {expected} for cover {coverage.shape}")
    # Flat first: three times as fast as np.nonzero of three axes.
    place = np.flatnonzero(coverage > coverage_threshold)  # (N,)
    if not len(place):
        return no_detections()
    class_id, row, column = np.unravel_index(place, coverage.shape)
    distance = bbox.reshape(num_classes, 4, height, width)[class_id, :, row, column]  # (N, 4)
    anchor = np.stack([column, row], axis=1) * np.float32(grid.stride) + np.float32(grid.offset)
    distance = distance.astype(np.float32, copy=False) * np.float32(grid.scale)
    xyxy = np.concatenate([anchor - distance[:, :2], anchor + distance[:, 2:]], axis=1)
    cells = Detections(
        xyxy.astype(np.float32, copy=False),
        coverage[class_id, row, column].astype(np.float32, copy=False),
        class_id.astype(np.int64, copy=False),
    )
    finite = np.isfinite(cells.xyxy).all(axis=1)  # (N,)
    return cells if finite.all() else Detections(*(field[finite] for field in cells))
