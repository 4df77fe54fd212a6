"""Round cones against their closed forms."""

import numpy as np
import pytest

from stages.datasets.render.surface import (
    FAR,
    Cone,
    add_cone_inplace,
    cone_window,
    new_field,
    soften_inplace,
)


def ball(x: float, y: float, z: float, radius: float, part: int = 0) -> Cone:
    point = np.array([x, y, z], np.float32)
    return Cone(point, point, radius, radius, part, 0.01, 0.01)


def test_ball_has_the_height_and_area_of_a_ball() -> None:
    field = new_field(0, 0, 60, 60)
    window = cone_window(field, ball(30.5, 30.5, 7.0, 20.0))
    assert window is not None
    add_cone_inplace(field, ball(30.5, 30.5, 7.0, 20.0), window)
    assert field.height[30, 30] == pytest.approx(27.0, abs=1e-3)
    assert field.height[30, 42] == pytest.approx(7.0 + 16.0, abs=1e-3)  # 12-16-20 triangle
    assert field.cover.sum() == pytest.approx(np.pi * 400, rel=0.01)
    np.testing.assert_allclose(field.normal[:, 30, 42], [0.6, 0.0], atol=1e-4)


def test_bone_towards_the_viewer_shows_its_near_end() -> None:
    start, end = np.float32([30.5, 30.5, 0.0]), np.float32([30.6, 30.5, 50.0])
    window = cone_window(new_field(0, 0, 60, 60), Cone(start, end, 10.0, 10.0, 0, 0.1, 0.1))
    assert window is not None
    assert window.height.max() == pytest.approx(60.0, abs=0.1)


def test_nearer_part_wins_whatever_the_order() -> None:
    near, far = ball(30, 30, 40, 12, part=4), ball(34, 30, 0, 12, part=8)
    heights = []
    for cones in ((near, far), (far, near)):
        field = new_field(0, 0, 60, 60)
        for cone in cones:
            window = cone_window(field, cone)
            assert window is not None
            add_cone_inplace(field, cone, window)
        assert field.part[30, 30] == 4
        heights.append(field.height)
    inside = heights[0] > FAR / 2
    # The anti-aliased rim of the nearer ball mixes with what is below, which depends on the order.
    assert np.median(np.abs(heights[0] - heights[1])[inside]) < 1e-3


def test_cone_outside_the_canvas_is_none() -> None:
    assert cone_window(new_field(0, 0, 20, 20), ball(100, 100, 0, 5)) is None


def test_smooth_maximum_is_never_below_the_maximum() -> None:
    field = new_field(0, 0, 60, 60)
    cones = [ball(24, 30, 0, 12)._replace(own_smoothing=6.0), ball(36, 30, 0, 12)]
    cones[1] = cones[1]._replace(own_smoothing=6.0)
    tops = np.full((60, 60), FAR)
    for cone in cones:
        window = cone_window(field, cone)
        assert window is not None
        at = (window.rows, window.columns)
        inside = window.cover >= 1.0
        tops[at] = np.where(inside, np.maximum(tops[at], window.height), tops[at])
        add_cone_inplace(field, cone, window)
    assert (field.height - tops).min() > -1e-2
    assert field.height[30, 30] > tops[30, 30] + 0.5


def test_softening_keeps_the_outline() -> None:
    field = new_field(0, 0, 60, 60)
    cone = ball(30, 30, 0, 15)
    window = cone_window(field, cone)
    assert window is not None
    add_cone_inplace(field, cone, window)
    cover, empty = field.cover.copy(), field.part < 0
    soften_inplace(field, 3.0)
    np.testing.assert_array_equal(field.cover, cover)
    assert (field.height[empty] == FAR).all()
