"""Regions: inside, contains, symmetric, identity without margin, monotone, equivariant."""

import numpy as np
import pytest

from deploy.core.roi import BORDERS, MODES, RoiRule, crop_regions, expand_boxes

WH = (1280, 720)
RULES = [
    RoiRule(mode=mode, ratio=1.5, margin_x=30, margin_y=20, square=square, border=border)
    for mode in MODES
    for square in (False, True)
    for border in BORDERS
]
DEMO = RoiRule(mode="pixels", margin_x=200, margin_y=200, square=False, border="clip")


def random_boxes(seed, num=200, reach=60):
    """Boxes of 2 to 500 pixels, some of them partly outside the frame by up to `reach`."""
    rng = np.random.RandomState(seed)
    low = rng.uniform(-reach, [WH[0] - 10, WH[1] - 10], (num, 2))
    high = np.minimum(low + rng.uniform(2, 500, (num, 2)), [WH[0] + reach, WH[1] + reach])
    high = np.maximum(high, 3)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def to_frame(xyxy):
    return np.clip(xyxy, 0, [WH[0], WH[1], WH[0], WH[1]])


def flip_x(xyxy, width=WH[0]):
    return np.stack([width - xyxy[:, 2], xyxy[:, 1], width - xyxy[:, 0], xyxy[:, 3]], axis=1)


@pytest.mark.parametrize(
    ("rule", "box", "expected"),
    [
        (RoiRule(), (100, 100, 200, 200), (80, 80, 220, 220)),
        (RoiRule(), (100, 100, 200, 150), (80, 55, 220, 195)),
        (RoiRule(square=False), (100, 100, 200, 150), (80, 90, 220, 160)),
        (RoiRule(), (0, 0, 100, 100), (-20, -20, 120, 120)),
        (RoiRule(border="clip"), (0, 0, 100, 100), (0, 0, 120, 120)),
        (RoiRule(border="shift"), (0, 0, 100, 100), (0, 0, 140, 140)),
        (RoiRule(border="shift"), (1200, 650, 1280, 720), (1168, 608, 1280, 720)),
        (RoiRule(border="shift"), (300, 10, 900, 710), (110, 0, 1090, 720)),
        (DEMO, (200, 300, 300, 400), (0, 100, 500, 600)),
        (DEMO, (600, 300, 700, 400), (400, 100, 900, 600)),
        (DEMO, (1000, 300, 1100, 400), (800, 100, 1280, 600)),
        (DEMO._replace(square=True), (600, 300, 700, 350), (400, 75, 900, 575)),
    ],
)
def test_regions_by_hand(rule, box, expected):
    np.testing.assert_allclose(
        expand_boxes(np.array([box]), rule, image_wh=WH), [expected], atol=1e-4
    )


def test_no_boxes_give_no_regions_and_no_crops():
    regions = expand_boxes(np.zeros((0, 4)), RoiRule(), image_wh=WH)
    assert regions.shape == (0, 4)
    assert regions.dtype == np.float32
    assert crop_regions(np.zeros((9, 9, 3), np.uint8), regions, size_wh=(8, 6)).shape == (
        0,
        6,
        8,
        3,
    )


@pytest.mark.parametrize("rule", RULES)
def test_region_is_inside_the_frame_unless_padded(rule):
    regions = expand_boxes(random_boxes(1), rule, image_wh=WH)
    assert (regions[:, :2] <= regions[:, 2:]).all()
    if rule.border != "pad":
        np.testing.assert_array_equal(regions, to_frame(regions))


@pytest.mark.parametrize("rule", RULES)
def test_region_contains_the_box_within_the_frame(rule):
    boxes = random_boxes(2)
    regions = expand_boxes(boxes, rule, image_wh=WH)
    seen = to_frame(boxes)
    assert (regions[:, :2] <= seen[:, :2] + 1e-3).all()
    assert (regions[:, 2:] >= seen[:, 2:] - 1e-3).all()


@pytest.mark.parametrize("rule", RULES)
def test_flip_of_the_box_flips_the_region(rule):
    boxes = random_boxes(3)
    flipped = expand_boxes(flip_x(boxes), rule, image_wh=WH)
    np.testing.assert_allclose(flipped, flip_x(expand_boxes(boxes, rule, image_wh=WH)), atol=1e-2)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_no_margin_is_the_box_within_the_frame(mode, border):
    rule = RoiRule(mode=mode, ratio=1, margin_x=0, margin_y=0, square=False, border=border)
    boxes = to_frame(random_boxes(4))
    np.testing.assert_array_equal(expand_boxes(boxes, rule, image_wh=WH), boxes)


@pytest.mark.parametrize("rule", RULES)
def test_more_margin_never_takes_anything_away(rule):
    boxes = random_boxes(5)
    wider = rule._replace(
        ratio=rule.ratio + 0.7, margin_x=rule.margin_x + 40, margin_y=rule.margin_y + 9
    )
    small = expand_boxes(boxes, rule, image_wh=WH)
    large = expand_boxes(boxes, wider, image_wh=WH)
    assert (large[:, :2] <= small[:, :2] + 1e-3).all()
    assert (large[:, 2:] >= small[:, 2:] - 1e-3).all()


@pytest.mark.parametrize("rule", RULES)
def test_region_moves_with_the_box_away_from_borders(rule):
    box = np.array([[500, 300, 570, 340]], np.float32)
    move = np.array([37, -21, 37, -21], np.float32)
    moved = expand_boxes(box + move, rule, image_wh=WH)
    np.testing.assert_allclose(moved, expand_boxes(box, rule, image_wh=WH) + move, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_padded_region_keeps_centre_and_square_shape_at_the_border(mode):
    boxes = random_boxes(6)
    regions = expand_boxes(boxes, RoiRule(mode=mode), image_wh=WH)
    np.testing.assert_allclose(
        regions[:, :2] + regions[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-2
    )
    extent = regions[:, 2:] - regions[:, :2]
    np.testing.assert_allclose(extent[:, 0], extent[:, 1], atol=1e-2)


def test_input_boxes_are_not_changed():
    boxes = random_boxes(7)
    kept = boxes.copy()
    expand_boxes(boxes, RoiRule(border="clip"), image_wh=WH)
    np.testing.assert_array_equal(boxes, kept)


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        (RoiRule(mode="cm"), "ratio, pixels"),
        (RoiRule(border="wrap"), "pad, clip, shift"),
        (RoiRule(ratio=0.9), ">= 1"),
        (RoiRule(margin_y=-1), ">= 0"),
        (RoiRule(ratio=float("nan")), ">= 1"),
        (RoiRule(margin_y=float("nan")), ">= 0"),
    ],
)
def test_rule_without_meaning_is_refused(rule, word):
    with pytest.raises(ValueError, match=word):
        expand_boxes(np.zeros((1, 4)), rule, image_wh=WH)


def random_image(seed=0, wh=(64, 48)):
    return np.random.RandomState(seed).randint(1, 256, (wh[1], wh[0], 3)).astype(np.uint8)


def test_whole_pixel_crop_of_the_same_extent_copies_pixels():
    image = random_image()
    crops = crop_regions(image, np.array([[10, 5, 30, 21]]), size_wh=(20, 16))
    np.testing.assert_array_equal(crops[0], image[5:21, 10:30])


def test_outside_of_the_frame_is_black():
    image = random_image()
    crop = crop_regions(image, np.array([[-8, -4, 8, 12]]), size_wh=(16, 16))[0]
    assert not crop[:4].any()
    assert not crop[:, :8].any()
    np.testing.assert_array_equal(crop[4:, 8:], image[:12, :8])


@pytest.mark.parametrize(
    "region",
    [
        (-20, 0, -4, 10),
        (70, 0, 90, 10),
        (0, 50, 9, 60),
        (5, 5, 5, 9),
        (9, 5, 4, 9),
        (np.nan, 0, 5, 5),
    ],
)
def test_crop_with_nothing_to_see_is_black(region):
    assert not crop_regions(random_image(), np.array([region]), size_wh=(4, 4)).any()


def test_fractional_edges_go_outwards_and_float_noise_does_not_count():
    image = random_image()
    outwards = crop_regions(image, np.array([[10.5, 5.5, 29.5, 20.5]]), size_wh=(20, 16))
    noise = crop_regions(image, np.array([[9.9999, 5.0001, 30.0001, 20.9999]]), size_wh=(20, 16))
    np.testing.assert_array_equal(outwards[0], image[5:21, 10:30])
    np.testing.assert_array_equal(noise[0], image[5:21, 10:30])


def test_flipped_frame_gives_flipped_crops():
    image = random_image()
    regions = np.array([[3.2, 4, 20.7, 30], [-6, 2, 14, 22], [40, 20, 71.5, 60]])
    crops = crop_regions(image, regions, size_wh=(12, 12))
    mirrored = crop_regions(
        np.ascontiguousarray(image[:, ::-1]), flip_x(regions, 64), size_wh=(12, 12)
    )
    # Bilinear weights are fixed-point, so mirrored rounding may differ by one level.
    assert np.abs(mirrored[:, :, ::-1].astype(int) - crops).max() <= 1
