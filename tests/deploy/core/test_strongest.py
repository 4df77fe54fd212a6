"""A few cells in plain Python find what the arrays find, on any maps."""

import numpy as np
import pytest

from deploy.core import cluster
from deploy.core.boxes import box_iou, clip_boxes, take_detections
from deploy.core.cluster import Postprocess, postprocess_maps
from deploy.core.grid import Grid, decode_cells
from deploy.core.preprocess import RESIZES
from deploy.core.strongest import FEW_CELLS

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

# The same examples every time: a failure is one of the change that is tested.
PROPERTY = hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
# Edges of these are exact in float32 where distances are eighths: ties are ties either way.
EXACT = Grid(stride=16, scale=32.0, offset=0.5)
HEIGHT, WIDTH = 6, 8
INPUT_WH = (16 * WIDTH, 16 * HEIGHT)
NAMES = ("xyxy", "confidence", "class_id")


@st.composite
def constants(draw):
    return Postprocess(
        cluster="nms",
        coverage_threshold=draw(st.sampled_from((0.0, 0.0625, 0.5))),
        eps=0.3,
        min_samples=1.0,
        iou_threshold=draw(st.sampled_from((0.0, 0.25, 0.45, 0.5, 1.0))),
        confidence="max",
        confidence_threshold=draw(st.sampled_from((0.0, 0.3, 0.5, 0.8, 1.5))),
        minimum_box_height=draw(st.sampled_from((0.0, 4.0, 24.0))),
        inner_confidence=draw(st.sampled_from((0.0, 0.5, 0.75, 1.0))),
    )


@st.composite
def views(draw):
    """How a picture came to the input: both ways of a letterbox, and pictures of any shape."""
    return {
        "input_wh": INPUT_WH,
        "image_wh": draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000))),
        "resize": draw(st.sampled_from(RESIZES)),
        "apply_confidence_threshold": draw(st.booleans()),
    }


def draw_maps(seed, *, num_classes, num_cells, is_exact):
    """Maps with so many cells that are not 0; boxes reach over the borders and are inverted."""
    rng = np.random.RandomState(seed)
    coverage = np.zeros(num_classes * HEIGHT * WIDTH, np.float32)
    bbox = rng.uniform(-0.6, 2.6, (4 * num_classes, HEIGHT, WIDTH)).astype(np.float32)
    near = rng.uniform(0.4, 0.6, bbox.shape).astype(np.float32)
    bbox = np.where(rng.uniform(size=bbox.shape) < 0.6, near, bbox)
    if is_exact:
        bbox = np.round(bbox * 8) / 8
    bbox[rng.uniform(size=bbox.shape) < 0.02] = rng.choice([np.nan, np.inf, -np.inf])
    place = rng.permutation(len(coverage))[:num_cells]
    coverage[place] = rng.randint(1, 17, len(place)) / 16.0
    coverage[rng.permutation(len(coverage))[:2]] = np.nan
    return coverage.reshape(num_classes, HEIGHT, WIDTH), bbox.astype(np.float32)


def find_both_ways(coverage, bbox, grid, postprocess, view):
    found = []
    for few in (FEW_CELLS, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "FEW_CELLS", few)
            found.append(postprocess_maps(coverage, bbox, grid, postprocess, **view))
    return found


def assert_same(found):
    for name, few, arrays in zip(NAMES, *found):
        np.testing.assert_array_equal(few, arrays, err_msg=name)
        assert few.dtype == arrays.dtype
        assert few.shape == arrays.shape


SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, FEW_CELLS)


@PROPERTY
@hypothesis.given(SEEDS, COUNTS, st.sampled_from((1, 2, 3)), constants(), views())
def test_few_cells_give_the_detections_of_the_arrays_ties_included(
    seed, num_cells, num_classes, postprocess, view
):
    maps = draw_maps(seed, num_classes=num_classes, num_cells=num_cells, is_exact=True)
    assert_same(find_both_ways(*maps, EXACT, postprocess, view))


@PROPERTY
@hypothesis.given(SEEDS, COUNTS, constants(), views())
def test_few_cells_with_any_edges_give_the_same_bits(seed, num_cells, postprocess, view):
    coverage, bbox = draw_maps(seed, num_classes=1, num_cells=num_cells, is_exact=False)
    cells = decode_cells(coverage, bbox, Grid(), coverage_threshold=0.0)
    boxes = clip_boxes(cells.xyxy, INPUT_WH).astype(np.float64)
    # Where float32 and float64 may judge otherwise nothing is promised.
    apart = np.abs(box_iou(boxes, boxes) - postprocess.iou_threshold)
    hypothesis.assume(not ((apart > 0) & (apart < 1e-5)).any())
    heights = np.abs(boxes[:, 3] - boxes[:, 1] - postprocess.minimum_box_height)
    hypothesis.assume(not ((heights > 0) & (heights < 1e-4)).any())
    assert_same(find_both_ways(coverage, bbox, Grid(), postprocess, view))


@PROPERTY
@hypothesis.given(SEEDS, COUNTS, st.sampled_from((1, 2)), constants(), views())
def test_the_operating_point_takes_nothing_but_the_weaker_detections_away(
    seed, num_cells, num_classes, postprocess, view
):
    """Fewer cells are looked at for it; what is left of them is the same."""
    coverage, bbox = draw_maps(seed, num_classes=num_classes, num_cells=num_cells, is_exact=True)
    everything, sure = (
        postprocess_maps(
            coverage, bbox, EXACT, postprocess, **dict(view, apply_confidence_threshold=is_sure)
        )
        for is_sure in (False, True)
    )
    is_kept = everything.confidence >= np.float32(postprocess.confidence_threshold)
    assert_same([sure, take_detections(everything, is_kept)])


@pytest.mark.parametrize("num_cells", [FEW_CELLS, FEW_CELLS + 1])
def test_arrays_take_over_where_cells_are_many(num_cells, monkeypatch):
    asked = []
    monkeypatch.setattr(
        cluster, "keep_strongest", lambda *cells, **rules: asked.append(len(cells[1])) or []
    )
    coverage = np.zeros((1, 10, 10), np.float32)
    coverage.reshape(-1)[:num_cells] = 0.9
    found = postprocess_maps(
        coverage,
        np.ones((4, 10, 10), np.float32),
        Grid(),
        Postprocess("nms", 0.05, 0.3, 1.0, 0.5, "max", 0.5, 0.0),
        input_wh=(160, 160),
        image_wh=(320, 320),
        apply_confidence_threshold=True,
    )
    assert asked == ([num_cells] if num_cells == FEW_CELLS else [])
    assert bool(len(found.xyxy)) is (num_cells > FEW_CELLS)
