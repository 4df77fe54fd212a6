"""Gamma, shade, grey, blur and JPEG do what they say, and nothing when they are off."""

import numpy as np
import pytest

from stages.gesturenet.config import GestureAugmentConfig
from stages.gesturenet.finish import NO_FINISH, Finish, apply_finish, draw_finishes

OFF = GestureAugmentConfig()
ALL = GestureAugmentConfig(
    gamma_max=0.4,
    grey_probability=0.3,
    shade_probability=0.5,
    blur_probability=0.4,
    jpeg_probability=0.6,
)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def test_nothing_is_drawn_while_all_are_off() -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    assert draw_finishes(3, generator, OFF) == [NO_FINISH] * 3
    assert generator.bit_generator.state == before


def test_no_finish_leaves_the_picture(picture: np.ndarray) -> None:
    assert np.array_equal(apply_finish(picture, NO_FINISH), picture)


def test_drawn_values_keep_their_limits_and_come_as_often_as_asked() -> None:
    finishes = draw_finishes(600, np.random.default_rng(2), ALL)
    gammas = np.array([one.gamma for one in finishes])
    assert np.exp(-0.4) <= gammas.min() < 0.75
    assert 1.35 < gammas.max() <= np.exp(0.4)
    shares = {
        "grey": np.mean([one.is_grey for one in finishes]),
        "shade": np.mean([any(one.shade) for one in finishes]),
        "blur": np.mean([one.blur_sigma > 0 for one in finishes]),
        "jpeg": np.mean([one.jpeg_quality > 0 for one in finishes]),
    }
    expected = {"grey": 0.3, "shade": 0.5, "blur": 0.4, "jpeg": 0.6}
    assert shares == pytest.approx(expected, abs=0.07)
    blurs = [one.blur_sigma for one in finishes if one.blur_sigma]
    assert 0.5 <= min(blurs) < max(blurs) <= ALL.blur_max_sigma
    qualities = [one.jpeg_quality for one in finishes if one.jpeg_quality]
    assert ALL.jpeg_min_quality <= min(qualities) < max(qualities) <= 90


def test_gamma_is_a_power_of_the_pixel() -> None:
    grey = np.full((2, 2, 3), 128, np.uint8)
    expected = round(255 * (128 / 255) ** 1.5)
    assert apply_finish(grey, Finish(gamma=1.5))[0, 0].tolist() == [expected] * 3


def test_grey_has_no_colour(picture: np.ndarray) -> None:
    grey = apply_finish(picture, Finish(is_grey=True))
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_shade_darkens_one_side_and_lightens_the_other() -> None:
    shaded = apply_finish(np.full((20, 20, 3), 100, np.uint8), Finish(shade=(0.5, 0.0)))
    assert shaded[:, 0].max() == 50
    assert shaded[:, -1].min() == 150
    assert np.array_equal(shaded[0], shaded[-1])


@pytest.mark.parametrize("finish", [Finish(blur_sigma=2.0), Finish(jpeg_quality=25)])
def test_blur_and_compression_take_detail(picture: np.ndarray, finish: Finish) -> None:
    changed = apply_finish(picture, finish)
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert (
        np.diff(changed.astype(float), axis=1).std() < np.diff(picture.astype(float), axis=1).std()
    )
