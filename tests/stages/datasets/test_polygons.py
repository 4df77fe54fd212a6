import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deploy.core.boxes import clip_boxes
from stages.datasets.polygons import Fate, box_polygons, clip_extremes

IMAGE_WH = (100, 80)
COORDINATES = st.floats(-150.0, 250.0, allow_nan=False, width=32)
POLYGONS = st.integers(0, 7).flatmap(lambda n: arrays(np.float64, (n, 2), elements=COORDINATES))


@pytest.mark.parametrize(
    ("points", "fate", "box"),
    [
        ([[10, 10], [20, 10], [20, 22]], Fate.KEPT, [10, 10, 20, 22]),
        ([[10.126, 10], [20, 10], [20, 22]], Fate.KEPT, [10.13, 10, 20, 22]),
        ([[0, 0], [100, 0], [100, 80], [0, 80]], Fate.KEPT, [0, 0, 100, 80]),
        ([[-5, 10], [20, 10], [20, 22]], Fate.CLIPPED, [0, 10, 20, 22]),
        ([[10, 10], [20, 10], [20, 80.99]], Fate.CLIPPED, [10, 10, 20, 80]),
        ([[-5, -5], [200, -5], [200, 200], [-5, 200]], Fate.CLIPPED, [0, 0, 100, 80]),
        ([[-9, 10], [-1, 10], [-1, 22]], Fate.OUTSIDE, None),
        ([[-9, 10], [0, 10], [0, 22]], Fate.OUTSIDE, None),
        ([[10, 80], [20, 80], [20, 90]], Fate.OUTSIDE, None),
        ([[10, 10], [20, 20]], Fate.DEGENERATE, None),
        ([[10, 10], [20, 20], [30, 30]], Fate.DEGENERATE, None),
        ([[10, 10], [20, 10], [30, 10]], Fate.DEGENERATE, None),
        ([[10, 10], [10, 10], [10, 10]], Fate.DEGENERATE, None),
        ([[-9, -9], [-9, -9], [-9, -9]], Fate.DEGENERATE, None),
        ([[10, 10], [10.001, 10], [10, 30]], Fate.DEGENERATE, None),
        ([[10, 10], [np.nan, 10], [10, 30]], Fate.DEGENERATE, None),
        ([[10, 10], [np.inf, 10], [10, 30]], Fate.DEGENERATE, None),
    ],
)
def test_what_becomes_of_a_polygon(
    points: list[list[float]], fate: Fate, box: list[float] | None
) -> None:
    result = box_polygons([np.array(points, dtype=float)], IMAGE_WH)
    assert result.fate.tolist() == [fate]
    if box is not None:
        np.testing.assert_allclose(result.xyxy[0], box, atol=1e-5)


def test_no_polygons_give_no_boxes() -> None:
    assert box_polygons([], IMAGE_WH).xyxy.shape == (0, 4)
    assert box_polygons([np.zeros((0, 0))], IMAGE_WH).fate.tolist() == [Fate.DEGENERATE]


@settings(deadline=None)
@given(st.lists(POLYGONS, max_size=6))
def test_a_kept_box_is_the_clipped_extremes(polygons: list[np.ndarray]) -> None:
    result = box_polygons(polygons, IMAGE_WH)
    for points, box, fate in zip(polygons, *result, strict=True):
        if fate <= Fate.CLIPPED:
            extremes = np.concatenate([points.min(axis=0), points.max(axis=0)])[None]
            expected = clip_boxes(extremes.astype(np.float32), IMAGE_WH)[0]
            np.testing.assert_allclose(box, expected, atol=0.0051)
            assert (box[2:] > box[:2]).all()


@settings(deadline=None)
@given(st.lists(POLYGONS, max_size=6))
def test_a_box_does_not_depend_on_its_neighbours(polygons: list[np.ndarray]) -> None:
    together = box_polygons(polygons, IMAGE_WH)
    for number, points in enumerate(polygons):
        alone = box_polygons([points], IMAGE_WH)
        assert alone.fate[0] == together.fate[number]
        np.testing.assert_array_equal(alone.xyxy[0], together.xyxy[number])


@settings(deadline=None)
@given(arrays(np.float32, (5, 4), elements=COORDINATES))
def test_clipping_is_idempotent(extremes: np.ndarray) -> None:
    once = clip_extremes(extremes, IMAGE_WH)
    usable = once.fate <= Fate.CLIPPED
    twice = clip_extremes(once.xyxy[usable], IMAGE_WH)
    np.testing.assert_array_equal(twice.xyxy, once.xyxy[usable])
    assert (twice.fate == Fate.KEPT).all()
