"""Hands before a plain wall are cut out; others are left alone; the hand itself stays."""

import cv2
import numpy as np
import pytest

from stages.gesturenet.backgrounds import (
    Backgrounds,
    change_background,
    draw_behind,
    draw_pictures,
    find_backgrounds,
    find_hand,
)

SIZE = 96
SKIN = (120, 160, 225)
CIRCLE = ((48, 50), 26)


def hand_before(wall: tuple[int, int, int] | np.ndarray) -> np.ndarray:
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    picture[:] = wall
    cv2.circle(picture, *CIRCLE, SKIN, -1)
    return picture


def is_hand() -> np.ndarray:
    return cv2.circle(np.zeros((SIZE, SIZE), np.uint8), *CIRCLE, 1, -1) > 0


def shaded_wall() -> np.ndarray:
    ramp = np.linspace(0.55, 1.0, SIZE)[None, :, None]
    return (np.full((SIZE, SIZE, 3), 200) * ramp).astype(np.uint8)


@pytest.mark.parametrize("wall", [(240, 240, 240), (60, 170, 60), shaded_wall()])
def test_a_hand_before_a_plain_wall_is_found(wall: tuple[int, int, int] | np.ndarray) -> None:
    mask = find_hand(hand_before(wall))
    assert mask is not None
    found, truth = mask > 127, is_hand()
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_no_hand_is_found_where_there_is_none_or_the_wall_has_colours() -> None:
    assert find_hand(np.full((SIZE, SIZE, 3), 200, np.uint8)) is None
    assert find_hand(np.zeros((SIZE, SIZE, 3), np.uint8)) is None
    noise = np.random.default_rng(0).integers(0, 256, (SIZE // 8, SIZE // 8, 3), np.uint8)
    coloured = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    assert find_hand(hand_before(coloured)) is None


def test_something_in_a_corner_is_no_hand() -> None:
    picture = np.full((SIZE, SIZE, 3), 220, np.uint8)
    cv2.circle(picture, (18, 18), 16, SKIN, -1)
    assert find_hand(picture) is None


def test_only_the_given_crops_are_cut_out() -> None:
    images = np.stack([hand_before((240, 240, 240))] * 3)
    found = find_backgrounds(images, [0, 2], num_pictures=2, seed=1)
    assert sorted(found.masks) == [0, 2]
    assert found.pictures.shape == (2, SIZE, SIZE, 3)
    again = find_backgrounds(images, [], num_pictures=2, seed=1)
    assert again.masks == {}
    assert np.array_equal(found.pictures, again.pictures)


def test_pictures_differ_from_each_other() -> None:
    pictures = draw_pictures(4, size_px=32, seed=3)
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_the_hand_stays_and_what_is_behind_changes() -> None:
    image = hand_before((240, 240, 240))
    mask = find_hand(image)
    assert mask is not None
    backgrounds = Backgrounds({0: mask}, draw_pictures(1, size_px=SIZE, seed=2))
    changed = change_background(
        image, mask, backgrounds.pictures, draw_behind(1, np.random.default_rng(4))
    )
    inside, outside = mask == 255, mask == 0
    assert np.array_equal(changed[inside], image[inside])
    assert np.abs(changed[outside].astype(int) - image[outside]).mean() > 20
