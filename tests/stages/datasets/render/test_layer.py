"""Pasting, shadows and motion blur of layers."""

import numpy as np
import pytest

from stages.datasets.render.layer import (
    Layer,
    blur_motion,
    move_layer,
    overlap,
    paste_inplace,
    shade_inplace,
)


def square(x: int, y: int, size: int = 10, level: float = 200.0) -> Layer:
    alpha = np.ones((size, size), np.float32)
    return Layer((x, y), np.full((size, size, 3), level, np.float32), alpha, alpha.copy())


@pytest.mark.parametrize("origin", [(-10, 0), (0, -10), (30, 0), (0, 20)])
def test_layer_outside_the_frame_changes_nothing(origin: tuple[int, int]) -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    assert overlap(origin, (10, 10), (20, 30)) is None
    paste_inplace(frame, square(*origin))
    assert not frame.any()


def test_layer_is_clipped_at_the_border() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    paste_inplace(frame, square(-4, 15))
    assert (frame[15:, :6] == 200).all()
    assert frame.sum() == 5 * 6 * 3 * 200


def test_half_alpha_mixes_half() -> None:
    frame = np.full((20, 30, 3), 100, np.uint8)
    layer = square(5, 5)
    paste_inplace(frame, layer._replace(alpha=layer.alpha * 0.5))
    assert (frame[6:14, 6:14] == 150).all()


def test_shadow_darkens_below_and_nothing_far() -> None:
    frame = np.full((80, 80, 3), 200, np.uint8)
    shade_inplace(frame, square(30, 30, 20), shift=(0.0, 8.0), strength=0.5)
    assert frame[48, 40].max() < 150
    assert (frame[:8] >= 198).all()


def test_blur_keeps_the_amount_and_the_centre() -> None:
    layer = square(20, 20)
    blurred = blur_motion(layer, (9.0, 0.0))
    assert blurred.alpha.sum() == pytest.approx(layer.alpha.sum(), rel=1e-3)
    columns = np.arange(blurred.alpha.shape[1]) + blurred.origin[0]
    centre = (blurred.alpha.sum(axis=0) * columns).sum() / blurred.alpha.sum()
    assert centre == pytest.approx(24.5, abs=0.1)
    assert (blurred.alpha > 0.01).any(axis=0).sum() > 14


def test_slow_layer_is_not_blurred() -> None:
    layer = square(0, 0)
    assert blur_motion(layer, (1.0, 0.5)) is layer


def test_moving_there_and_back_is_the_identity() -> None:
    assert move_layer(move_layer(square(3, 4), (5, -7)), (-5, 7)).origin == (3, 4)
