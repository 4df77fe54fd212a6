"""Augmentation: boxes move with the pixels, colours as by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.detectnet.augment import (
    augment_batch,
    change_colours,
    draw_colour,
    draw_spatial,
    hue_saturation_matrices,
)
from stages.detectnet.config import AugmentConfig
from stages.detectnet.feed import seeded
from stages.detectnet.warp import (
    Batch,
    affine_matrices,
    clip_visible,
    rotation_matrices,
    transform_boxes,
    transform_ellipses,
    warp_by_grid,
    warp_images,
)
from tests.stages.detectnet.pictures import STILL

INPUT_WH = (96, 64)
LIVELY = AugmentConfig(
    translate_max_x=10, translate_max_y=10, zoom_min=0.8, zoom_max=1.6, clip_boxes=False
)


def picture_with_box(box: tuple[int, int, int, int]) -> Batch:
    """A black picture with a white rectangle that fills its box exactly."""
    x1, y1, x2, y2 = box
    image = torch.zeros(1, INPUT_WH[1], INPUT_WH[0], 3, dtype=torch.uint8)
    image[:, y1:y2, x1:x2] = 255
    return Batch(image, torch.tensor([[box]], dtype=torch.float32), torch.ones(1, 1).bool())


def bright_extent(image: np.ndarray) -> list[float]:
    """Extent of a white rectangle with soft edges: full pixels and the parts of partial ones."""
    columns, rows = image.max(axis=0), image.max(axis=1)
    sides = []
    for profile in (columns, rows):
        full = np.nonzero(profile > 0.5)[0]
        low = full[0] + 1 - profile[full[0] - 1 : full[0] + 1].sum() if full[0] else 0.0
        high = full[-1] + profile[full[-1] : full[-1] + 2].sum()
        sides.append((float(low), float(high)))
    return [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_boxes_move_with_the_pixels(seed: int) -> None:
    batch = picture_with_box((30, 20, 62, 44))
    colourless = AugmentConfig(
        **{
            **vars(LIVELY),
            "hue_rotation_max": 0.0,
            "saturation_shift_max": 0.0,
            "contrast_scale_max": 0.0,
            "brightness_scale_max": 0.0,
        }
    )
    images, boxes, _ = augment_batch(batch, colourless, seeded(seed))
    box = boxes[0, 0].tolist()
    if box[0] < 1 or box[1] < 1 or box[2] > INPUT_WH[0] - 1 or box[3] > INPUT_WH[1] - 1:
        return
    assert bright_extent(images[0, 0].numpy()) == pytest.approx(box, abs=0.6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_both_warps_agree(seed: int) -> None:
    """OpenCV's (used on the CPU) and PyTorch's (elsewhere); OpenCV rounds positions to 1 / 32."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 8, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    images = (smooth.permute(0, 2, 3, 1) * 255).to(torch.uint8)
    rotating = AugmentConfig(**{**vars(LIVELY), "rotate_max_rad": 0.3})
    spatial = draw_spatial(rotating, 2, input_wh=INPUT_WH, generator=generator)
    by_opencv = warp_images(images, spatial).float()
    by_torch = warp_by_grid(images, torch.linalg.inv(spatial))
    assert (by_opencv - by_torch).abs().mean() < 1.0


def test_nothing_changes_with_everything_off() -> None:
    batch = picture_with_box((8, 8, 40, 40))
    images, boxes, is_box = augment_batch(batch, STILL, seeded(0))
    assert torch.equal(boxes, batch.boxes)
    assert bool(is_box.all())
    assert torch.equal((images * 255).round().permute(0, 2, 3, 1).to(torch.uint8), batch.images)


def test_one_seed_gives_one_result_and_another_another() -> None:
    batch = picture_with_box((8, 8, 40, 40))
    first, second, third = (augment_batch(batch, LIVELY, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], third[1])


@pytest.mark.parametrize(
    ("spatial", "expected"),
    [
        (affine_matrices(scale_x=torch.tensor([-1.0]), move_x=torch.tensor([96.0])), (56, 10, 86)),
        (affine_matrices(move_x=torch.tensor([5.0]), move_y=torch.tensor([-3.0])), (15, 7, 45)),
        (rotation_matrices(torch.tensor([math.pi]), input_wh=INPUT_WH), (56, 34, 86)),
    ],
)
def test_matrices_by_hand(spatial: torch.Tensor, expected: tuple[int, int, int]) -> None:
    moved = transform_boxes(torch.tensor([[[10.0, 10.0, 40.0, 30.0]]]), spatial)
    assert moved[0, 0, :3].tolist() == pytest.approx(expected, abs=1e-4)


def test_zoom_keeps_the_picture_over_or_inside_the_frame() -> None:
    config = AugmentConfig(**{**vars(STILL), "zoom_min": 0.5, "zoom_max": 2.0})
    spatial = draw_spatial(config, 200, input_wh=INPUT_WH, generator=seeded(3))
    frame = torch.tensor([[[0.0, 0.0, 96.0, 64.0]]]).expand(200, 1, 4)
    moved = transform_boxes(frame, spatial)[:, 0]
    is_smaller = spatial[:, 0, 0] < 1.0
    assert 60 < int(is_smaller.sum()) < 180
    inside = (moved[:, 0] >= -1e-3) & (moved[:, 2] <= 96 + 1e-3)
    over = (moved[:, 0] <= 1e-3) & (moved[:, 2] >= 96 - 1e-3)
    assert bool(torch.where(is_smaller, inside, over).all())


def test_draws_keep_their_limits_and_their_symmetry() -> None:
    config = AugmentConfig(**{**vars(STILL), "translate_max_x": 8, "hflip_probability": 0.5})
    spatial = draw_spatial(config, 2000, input_wh=INPUT_WH, generator=seeded(4))
    is_flipped = spatial[:, 0, 0] < 0
    assert 0.45 < is_flipped.float().mean() < 0.55
    moves = torch.where(is_flipped, spatial[:, 0, 2] - 96.0, spatial[:, 0, 2])
    assert sorted(set(moves.tolist())) == [float(value) for value in range(-8, 9)]


def test_colour_identity() -> None:
    matrix = hue_saturation_matrices(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    torch.testing.assert_close(matrix[0], torch.eye(3), atol=1e-6, rtol=0.0)


def test_no_saturation_gives_luma() -> None:
    matrix = hue_saturation_matrices(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    gray = torch.tensor([1.0, 0.5, 0.25]) @ matrix[0]
    assert gray.tolist() == pytest.approx([0.299 + 0.2935 + 0.0285] * 3)


def test_hue_by_hand() -> None:
    """Red turned by 90 degrees: row r of K + B."""
    matrix = hue_saturation_matrices(torch.full((1, 1, 1), math.pi / 2), torch.ones(1, 1, 1))
    red = torch.tensor([1.0, 0.0, 0.0]) @ matrix[0]
    assert red.tolist() == pytest.approx([0.299 + 0.168, 0.299 - 0.328, 0.299 + 1.25], abs=1e-6)


def test_colours_are_mapped_and_clipped() -> None:
    """Contrast 0.5 about 0.5 after brightness 0.1: x -> 1.5 (x + 0.1) - 0.25."""
    offset = torch.full((1, 1, 3), 1.5 * 0.1 - 0.25)
    colour = torch.cat([1.5 * torch.eye(3)[None], offset], dim=1)
    pixels = torch.tensor([[[[0, 51, 255], [102, 153, 204]]]], dtype=torch.uint8)
    changed = change_colours(pixels, colour)
    expected = [0.0, 0.2, 1.0, 0.5, 0.8, 1.0]
    assert changed.permute(0, 2, 3, 1).flatten().tolist() == pytest.approx(expected, abs=2 / 255)
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_colour_draws_stay_within_two_sigma() -> None:
    config = AugmentConfig(**{**vars(STILL), "contrast_scale_max": 0.2})
    colour = draw_colour(config, 500, generator=seeded(5))
    contrast = colour[:, 0, 0] - 1.0
    assert contrast.abs().max() <= 0.2 + 1e-5
    assert contrast.abs().max() > 0.15
    torch.testing.assert_close(colour[:, 3, 0], -0.5 * contrast, atol=1e-5, rtol=0.0)


def test_clip_drops_boxes_that_left_the_picture() -> None:
    boxes = torch.tensor([[[-10.0, 0, 10, 10], [-30, 0, 10, 10], [-9, 0, -1, 5], [5, 5, 9, 9]]])
    clipped, is_visible = clip_visible(boxes, input_wh=INPUT_WH, minimum_frac=0.3)
    assert is_visible.tolist() == [[True, False, False, True]]
    assert clipped[0, 0].tolist() == [0.0, 0.0, 10.0, 10.0]


def test_ellipses_move_like_corners_without_rotation() -> None:
    config = AugmentConfig(**{**vars(LIVELY), "stretch_max": 0.3})
    spatial = draw_spatial(config, 50, input_wh=INPUT_WH, generator=seeded(6))
    boxes = torch.tensor([[[10.0, 10.0, 40.0, 30.0]]]).expand(50, 1, 4)
    by_corners, by_ellipses = (f(boxes, spatial) for f in (transform_boxes, transform_ellipses))
    torch.testing.assert_close(by_corners, by_ellipses, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize(("degrees", "half_wh"), [(90, (10, 20)), (45, (15.811, 15.811))])
def test_turned_ellipse_by_hand(degrees: int, half_wh: tuple[float, float]) -> None:
    """Half axes 20 and 10: at 45 degrees both extents are sqrt((400 + 100) / 2)."""
    spatial = rotation_matrices(torch.tensor([math.radians(degrees)]), input_wh=INPUT_WH)
    boxes = torch.tensor([[[28.0, 22.0, 68.0, 42.0]]])  # about the centre (48, 32)
    moved = transform_ellipses(boxes, spatial)[0, 0]
    x, y = half_wh
    assert moved.tolist() == pytest.approx([48 - x, 32 - y, 48 + x, 32 + y], abs=1e-2)


def test_stretch_changes_the_aspect_and_keeps_the_area() -> None:
    config = AugmentConfig(**{**vars(STILL), "stretch_max": 0.5})
    spatial = draw_spatial(config, 300, input_wh=INPUT_WH, generator=seeded(7))
    ratio = spatial[:, 0, 0] / spatial[:, 1, 1]
    assert 1.4 < ratio.max() <= 1.5 + 1e-4
    assert 1 / 1.5 - 1e-4 <= ratio.min() < 0.72
    torch.testing.assert_close(spatial[:, 0, 0] * spatial[:, 1, 1], torch.ones(300))


def test_changes_follow_the_place_in_the_whole_batch() -> None:
    """Two devices with half the batch each see what one device with all of it sees."""
    rows = torch.arange(4 * 24 * 32 * 3).view(4, 24, 32, 3) % 251
    whole = Batch(rows.to(torch.uint8), torch.rand(4, 2, 4) * 20, torch.ones(4, 2).bool())
    images, boxes, _ = augment_batch(whole, LIVELY, seeded(8))
    for rank in (0, 1):
        part = Batch(*(value[2 * rank : 2 * rank + 2] for value in whole))
        own = augment_batch(part, LIVELY, seeded(8), rank=rank, world_size=2)
        assert torch.equal(own[0], images[2 * rank : 2 * rank + 2])
        assert torch.equal(own[1], boxes[2 * rank : 2 * rank + 2])
