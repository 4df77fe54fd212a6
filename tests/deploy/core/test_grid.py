import numpy as np
import pytest

from deploy.core.boxes import clip_boxes
from deploy.core.grid import Grid, decode_cells


def maps(num_classes=1, height=3, width=4):
    shape = (num_classes, height, width)
    return np.zeros(shape, np.float32), np.zeros((4 * num_classes, height, width), np.float32)


def test_no_confident_cell_gives_no_box():
    cells = decode_cells(*maps(), Grid(), coverage_threshold=0.0)
    assert cells.xyxy.shape == (0, 4)
    assert cells.confidence.shape == cells.class_id.shape == (0,)


def test_a_box_is_the_anchor_and_its_distances():
    coverage, bbox = maps()
    coverage[0, 2, 1] = 0.75
    bbox[:, 2, 1] = [0.1, 0.2, 0.4, 0.6]
    cells = decode_cells(coverage, bbox, Grid(), coverage_threshold=0.5)
    # anchor (16 * 1 + 0.5, 16 * 2 + 0.5), distances 3.5, 7, 14, 21
    assert np.allclose(cells.xyxy, [[13.0, 25.5, 30.5, 53.5]], atol=1e-5)
    assert cells.confidence.tolist() == [0.75]
    assert cells.class_id.tolist() == [0]
    assert cells.xyxy.dtype == cells.confidence.dtype == np.float32


def test_edges_are_clipped_in_nvidias_order():
    """Anchor (16.5, 0.5) in 64 x 48: x1 = clip(16.5 - 35, 0, 64) = 0, y1 = 0.5 + 7 = 7.5; x2 =
    clip(16.5 - 35, x1, 64) = 0, not below x1; y2 = clip(350.5, y1, 48) = 48."""
    coverage, bbox = maps()
    coverage[0, 0, 1] = 0.75
    bbox[:, 0, 1] = [1.0, -0.2, -1.0, 10.0]
    cells = decode_cells(coverage, bbox, Grid(), coverage_threshold=0.5)
    assert np.allclose(clip_boxes(cells.xyxy, (64, 48)), [[0.0, 7.5, 0.0, 48.0]], atol=1e-5)


def test_cells_are_ordered_by_class_row_column_and_use_their_class_boxes():
    coverage, bbox = maps(num_classes=2)
    for place, value in {(1, 0, 0): 0.9, (0, 2, 3): 0.8, (0, 2, 0): 0.7, (0, 0, 3): 0.6}.items():
        coverage[place] = value
    bbox[4:] = 1.0
    cells = decode_cells(coverage, bbox, Grid(), coverage_threshold=0.5)
    assert np.allclose(cells.confidence, [0.6, 0.7, 0.8, 0.9])
    assert cells.class_id.tolist() == [0, 0, 0, 1]
    assert cells.xyxy[3].tolist() == [-34.5, -34.5, 35.5, 35.5]  # not clipped


def test_a_cell_at_the_threshold_is_left_out():
    coverage, bbox = maps()
    coverage[0, 0, :2] = [0.5, 0.51]
    assert len(decode_cells(coverage, bbox, Grid(), coverage_threshold=0.5).xyxy) == 1


def test_cells_that_are_not_numbers_are_left_out():
    coverage, bbox = maps()
    coverage[0, 0] = [0.9, np.nan, 0.9, 0.9]
    bbox[2, 0, 2] = np.nan
    bbox[3, 0, 3] = np.inf
    cells = decode_cells(coverage, bbox, Grid(), coverage_threshold=0.5)
    assert cells.xyxy.tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_maps_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"expected \(4, 3, 4\)"):
        decode_cells(maps()[0], maps(num_classes=2)[1], Grid(), coverage_threshold=0.5)
