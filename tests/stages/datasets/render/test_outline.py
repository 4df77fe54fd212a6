"""Polygons bound exactly the visible pixels."""

import cv2
import numpy as np

from stages.datasets.render.outline import trace_outline


def test_nothing_visible_is_an_empty_polygon() -> None:
    assert trace_outline(np.zeros((9, 9), np.uint8), (0, 0)).shape == (0, 2)


def test_rectangle_is_bounded_by_its_pixels() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[4:10, 5:21] = 1
    outline = trace_outline(mask, (100, 50))
    np.testing.assert_array_equal(outline.min(axis=0), [105, 54])
    np.testing.assert_array_equal(outline.max(axis=0), [121, 60])


def test_parts_are_joined_and_crumbs_left_out() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:30, 5:20] = 1
    mask[35:55, 10:40] = 1
    parts = mask > 0
    mask[50:52, 55:57] = 1
    outline = trace_outline(mask, (0, 0))
    np.testing.assert_array_equal(outline.min(axis=0), [5, 5])
    np.testing.assert_array_equal(outline.max(axis=0), [40, 55])
    filled = cv2.fillPoly(np.zeros_like(mask), [outline.astype(np.int32)], 1)
    assert (filled[parts] == 1).all()


def test_round_blob_keeps_its_area() -> None:
    mask = cv2.circle(np.zeros((80, 80), np.uint8), (40, 40), 30, 1, -1)
    outline = trace_outline(mask, (0, 0)).astype(np.float32)
    assert abs(cv2.contourArea(outline) - mask.sum()) < 0.03 * mask.sum()
