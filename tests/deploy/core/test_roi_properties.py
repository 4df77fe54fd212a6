"""Regions of any box under any rule: inside the frame, around the box, the same in a mirror."""

import numpy as np
import pytest

from deploy.core.boxes import clip_boxes
from deploy.core.roi import BORDERS, MODES, RoiRule, expand_boxes

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

# The same examples every time: a failure is one of the change that is tested.
PROPERTY = hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
# float32 has steps of 5e-4 at 8,192 pixels, and a region goes through a few of them.
TOLERANCE = 5e-3


@st.composite
def frames(draw):
    """A box that may reach over any border, a rule, and the frame's width and height."""
    image_wh = draw(st.tuples(st.integers(8, 4096), st.integers(8, 4096)))
    lows = [draw(st.floats(-600, extent + 100, width=32)) for extent in image_wh]
    extents = [draw(st.floats(0, 2000, width=32)) for _ in range(2)]
    box = np.array([[lows[0], lows[1], lows[0] + extents[0], lows[1] + extents[1]]], np.float32)
    rule = RoiRule(
        mode=draw(st.sampled_from(MODES)),
        ratio=draw(st.floats(1, 3)),
        margin_x=draw(st.floats(0, 400)),
        margin_y=draw(st.floats(0, 400)),
        square=draw(st.booleans()),
        border=draw(st.sampled_from(BORDERS)),
    )
    return box, rule, image_wh


def mirror(xyxy, image_wh, *, across):
    """Flip boxes left to right (across 0) or upside down (1)."""
    flipped = np.array(xyxy, np.float32)
    flipped[:, across] = image_wh[across] - xyxy[:, across + 2]
    flipped[:, across + 2] = image_wh[across] - xyxy[:, across]
    return flipped


@PROPERTY
@hypothesis.given(frames())
def test_region_lies_inside_the_frame_unless_padded(case):
    box, rule, image_wh = case
    region = expand_boxes(box, rule, image_wh=image_wh)
    assert (region[:, :2] <= region[:, 2:]).all()
    if rule.border != "pad":
        np.testing.assert_array_equal(region, clip_boxes(region, image_wh))


@PROPERTY
@hypothesis.given(frames())
def test_region_contains_what_the_frame_shows_of_the_box(case):
    box, rule, image_wh = case
    seen = clip_boxes(box, image_wh)
    hypothesis.assume((seen[:, 2:] > seen[:, :2]).all())
    region = expand_boxes(box, rule, image_wh=image_wh)
    assert (region[:, :2] <= seen[:, :2] + TOLERANCE).all()
    assert (region[:, 2:] >= seen[:, 2:] - TOLERANCE).all()


@PROPERTY
@hypothesis.given(frames())
def test_boxes_of_every_number_type_and_in_any_company_have_the_same_regions(case):
    box, rule, image_wh = case
    expected = expand_boxes(box, rule, image_wh=image_wh)
    both = np.concatenate([box[:, [1, 0, 3, 2]], box])
    for given in (box.astype(np.float64), box.tolist(), both):
        region = expand_boxes(given, rule, image_wh=image_wh)[-1:]
        assert region.dtype == np.float32
        np.testing.assert_array_equal(region, expected)
    whole = np.round(box).astype(np.int64)
    np.testing.assert_array_equal(
        expand_boxes(whole, rule, image_wh=image_wh),
        expand_boxes(whole.astype(np.float64), rule, image_wh=image_wh),
    )


@PROPERTY
@hypothesis.given(frames(), st.sampled_from((0, 1)))
def test_mirrored_box_has_the_mirrored_region(case, across):
    box, rule, image_wh = case
    region = expand_boxes(box, rule, image_wh=image_wh)
    mirrored = expand_boxes(mirror(box, image_wh, across=across), rule, image_wh=image_wh)
    expected = mirror(region, image_wh, across=across)
    np.testing.assert_allclose(mirrored, expected, rtol=0, atol=TOLERANCE)
