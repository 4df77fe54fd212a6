import dataclasses

import cv2
import numpy as np
import pytest

from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from stages.gesturenet.augment import (
    NO_CHANGE,
    apply_change,
    colour_matrix,
    disturb_boxes,
    draw_changes,
    region_matrix,
    warp_crop,
)
from stages.gesturenet.config import GestureAugmentConfig

BOXES = np.float32([[60, 70, 130, 120], [80, 50, 110, 140]])
PLAIN_COLOUR = np.eye(3, 4)


def smooth_picture(size_px: int = 192) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points (N, 2) whose pixel centres are at half integers, as boxes have them."""
    return (points - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5


def test_disturbed_boxes_stay_within_two_deviations() -> None:
    boxes = np.repeat(np.float32([[10, 20, 110, 70]]), 500, axis=0)
    generator = np.random.default_rng(0)
    disturbed = disturb_boxes(boxes, generator, shift_frac=0.1, scale_frac=0.2)
    centre = (disturbed[:, :2] + disturbed[:, 2:]) / 2
    extent = disturbed[:, 2:] - disturbed[:, :2]
    assert np.abs(centre - [60, 45]).max(axis=0) == pytest.approx([20, 10], rel=0.01)
    assert (extent / [100, 50]).max() == pytest.approx(np.exp(0.4), rel=0.01)
    assert (extent / [100, 50]).min() == pytest.approx(np.exp(-0.4), rel=0.01)


def test_the_middle_of_the_hand_stays_in_every_changed_crop() -> None:
    """With the default jitter and ratio 1.4, the box's inner 80 % never leaves the picture."""
    boxes = np.repeat(BOXES, 200, axis=0)
    config = dataclasses.replace(GestureAugmentConfig(), rotate_max_deg=0.0)
    generator = np.random.default_rng(0)
    changes = draw_changes(boxes, generator, config, RoiRule(), size_px=160)
    for box, change in zip(boxes, changes, strict=True):
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        corners = middle + 0.8 * half * np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]])
        mapped = map_points(change.matrix, corners)
        assert mapped.min() >= 0
        assert mapped.max() <= 160


def test_regions_are_scaled_about_their_middle() -> None:
    boxes = np.repeat(BOXES[:1], 300, axis=0)
    config = dataclasses.replace(NO_CHANGE, region_scale_max=0.3)
    changes = draw_changes(boxes, np.random.default_rng(1), config, RoiRule(), size_px=160)
    (plain,) = draw_changes(BOXES[:1], np.random.default_rng(1), NO_CHANGE, RoiRule(), size_px=160)
    scales = np.array([plain.matrix[0, 0] / change.matrix[0, 0] for change in changes])
    assert scales.min() == pytest.approx(np.exp(-0.3), rel=0.02)
    assert scales.max() == pytest.approx(np.exp(0.3), rel=0.02)
    assert np.log(scales).mean() == pytest.approx(0, abs=0.03)
    middle = (BOXES[:1, :2] + BOXES[:1, 2:]) / 2
    for change in changes:
        assert map_points(change.matrix, middle) == pytest.approx(np.array([[80, 80]]), abs=1e-3)


def test_no_change_is_the_region_that_the_runtime_cuts() -> None:
    image, rule = smooth_picture(), RoiRule()
    box = np.float32([[60, 71, 130, 121]])  # 98 x 98 around (95, 96): whole pixels
    change = draw_changes(box, np.random.default_rng(0), NO_CHANGE, rule, size_px=160)[0]
    changed = apply_change(image, change, size_px=160)
    expected = crop_regions(
        image, expand_boxes(box, rule, image_wh=(192, 192)), size_wh=(160, 160)
    )
    # Both are bilinear; they treat the outermost half pixel differently, hence the border.
    difference = changed.astype(int)[2:-2, 2:-2] - expected[0].astype(int)[2:-2, 2:-2]
    assert np.abs(difference).max() <= 2


def test_disabled_means_no_change() -> None:
    config = GestureAugmentConfig(enabled=False)
    one, two = (
        draw_changes(BOXES, np.random.default_rng(0), choice, RoiRule(), size_px=96)
        for choice in (config, NO_CHANGE)
    )
    for first, second in zip(one, two, strict=True):
        assert first.matrix.tolist() == second.matrix.tolist()
        assert first.colour.tolist() == second.colour.tolist()


def test_flip_mirrors_and_a_quarter_turn_rotates_clockwise() -> None:
    region = np.float32([0, 0, 64, 64])
    image = smooth_picture(64)
    plain = warp_crop(image, region_matrix(region, size_px=64), size_px=64)
    flipped = warp_crop(image, region_matrix(region, size_px=64, flip=True), size_px=64)
    turned = warp_crop(image, region_matrix(region, size_px=64, angle_deg=90.0), size_px=64)
    assert np.abs(plain.astype(int) - image).max() <= 1
    assert np.abs(flipped.astype(int) - image[:, ::-1]).max() <= 1
    assert np.abs(turned.astype(int) - np.rot90(image, -1)).max() <= 1


def test_half_of_the_crops_are_flipped() -> None:
    boxes = np.repeat(BOXES, 300, axis=0)
    config = dataclasses.replace(GestureAugmentConfig(), rotate_max_deg=0.0)
    generator = np.random.default_rng(0)
    changes = draw_changes(boxes, generator, config, RoiRule(), size_px=96)
    share = np.mean([change.matrix[0, 0] < 0 for change in changes])
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    ("gain", "contrast", "saturation", "pixel", "expected"),
    [
        (1.0, 1.0, 1.0, (10, 20, 30), (10, 20, 30)),
        (2.0, 1.0, 1.0, (10, 20, 30), (20, 40, 60)),
        (1.0, 0.0, 1.0, (10, 20, 30), (128, 128, 128)),
        (1.0, 1.0, 0.0, (100, 100, 0), (70, 70, 70)),  # 11.4 + 58.7 of luma
    ],
)
def test_colour_by_hand(
    gain: float,
    contrast: float,
    saturation: float,
    pixel: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    colour = colour_matrix(
        gain=gain, contrast=contrast, saturation=saturation, channel_gains=np.ones(3)
    )
    image = np.array([[pixel]], np.uint8)
    assert cv2.transform(image, colour)[0, 0].tolist() == list(expected)


def test_the_same_generator_gives_the_same_crop_and_the_source_is_untouched() -> None:
    image = smooth_picture()
    before = image.copy()
    config = GestureAugmentConfig(
        noise_probability=1.0, erase_probability=1.0, lowres_probability=1.0
    )
    one, two = (
        apply_change(
            image,
            draw_changes(BOXES, np.random.default_rng(7), config, RoiRule(), size_px=96)[0],
            size_px=96,
        )
        for _run in range(2)
    )
    assert one.shape == (96, 96, 3)
    assert np.array_equal(one, two)
    assert np.array_equal(image, before)


def test_no_crops_give_no_changes() -> None:
    empty = np.zeros((0, 4), np.float32)
    generator = np.random.default_rng(0)
    assert draw_changes(empty, generator, NO_CHANGE, RoiRule(), size_px=96) == []
