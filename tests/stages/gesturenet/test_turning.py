"""Turned hands point where they were told to, and are taught as `random`."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deploy.core.roi import RoiRule
from stages.gesturenet.config import GESTURES, GestureAugmentConfig, GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.feed import training_batches
from stages.gesturenet.turning import RANDOM, draw_turns, pointing_deg, taught_classes
from tests.stages.gesturenet.samples import striped_crops

FIST, THUMBS_UP = GESTURES.index("fist"), GESTURES.index("thumbs_up")
ALWAYS = GestureAugmentConfig(turned_probability=1.0, turned_min_deg=100.0)
# Degrees clockwise from upwards, y pointing down.
DIRECTIONS = {0.0: (0, -30), 90.0: (30, 0), -90.0: (-30, 0), 135.0: (30, 30), 180.0: (0, 30)}


def joints_of(*, middle: tuple[float, float], thumb: tuple[float, float]) -> np.ndarray:
    """One hand (1, 21, 2): the way from the wrist to the middle finger, and along the thumb."""
    joints = np.full((1, 21, 2), 48.0, np.float32)
    joints[0, 9] += middle
    joints[0, 4] = joints[0, 2] + np.float32(thumb)
    return joints


@pytest.mark.parametrize("angle", DIRECTIONS)
def test_a_hand_points_from_its_wrist_and_a_thumbs_up_along_its_thumb(angle: float) -> None:
    hand = joints_of(middle=DIRECTIONS[angle], thumb=(0, -9))
    assert pointing_deg(hand, np.array([FIST])) == pytest.approx([angle])
    thumb = joints_of(middle=(30, 0), thumb=DIRECTIONS[angle])
    assert pointing_deg(thumb, np.array([THUMBS_UP])) == pytest.approx([angle])


def test_unknown_joints_count_as_upright() -> None:
    assert pointing_deg(np.full((2, 21, 2), np.nan), np.array([FIST, THUMBS_UP])).tolist() == [
        0,
        0,
    ]


def test_nothing_is_drawn_where_turning_is_off() -> None:
    joints, generator = joints_of(middle=(0, -9), thumb=(0, -9)), np.random.default_rng(0)
    before = generator.bit_generator.state
    for config in (
        GestureAugmentConfig(),
        dataclasses.replace(ALWAYS, enabled=False),
    ):
        assert np.isnan(draw_turns(joints, np.array([FIST]), generator, config)).all()
    assert generator.bit_generator.state == before


def tilted_crops() -> Crops:
    """Crops of all classes whose hands lean to both sides by up to 30 degrees."""
    crops = striped_crops(60, size_px=96)
    lean = np.deg2rad(np.random.default_rng(1).uniform(-30, 30, len(crops.names)))
    joints = np.full_like(crops.joints, 48.0)
    up = 20 * np.stack([np.sin(lean), -np.cos(lean)], axis=1)
    joints[:, 9] += up
    joints[:, 4] = joints[:, 2] + up
    return crops._replace(joints=joints)


def test_turned_gestures_point_away_and_are_random_and_others_lean_as_before() -> None:
    """Measured on the joints of finished batches, mirrored ones included."""
    crops = tilted_crops()
    augment = dataclasses.replace(ALWAYS, turned_probability=0.4, rotate_max_deg=20.0)
    config = GestureConfig(batch_size=64, resolutions=[64], augment=augment)
    with ThreadPoolExecutor(2) as pool:
        batches = list(training_batches(crops, config, 0, rule=RoiRule(), pool=pool))
    class_id = np.concatenate([batch.class_id.numpy() for batch in batches])
    joints = np.concatenate([batch.joints.numpy() for batch in batches])
    # All but thumbs up: a turned one is `random`, and the thumb's direction is its hand's here.
    away = np.abs(pointing_deg(joints, class_id))
    is_gesture = class_id != RANDOM
    assert is_gesture.mean() == pytest.approx(5 / 6 * 0.6, abs=0.08)
    assert away[is_gesture].max() <= 50.1
    # `random`: a sixth of its own, of which six tenths lean by up to 50 degrees.
    is_away = away[~is_gesture] >= 99.9
    assert is_away.mean() == pytest.approx(0.7, abs=0.15)


def test_random_is_turned_to_every_side() -> None:
    joints = np.repeat(joints_of(middle=(0, -9), thumb=(0, -9)), 400, axis=0)
    turns = draw_turns(joints, np.full(400, RANDOM), np.random.default_rng(0), ALWAYS)
    assert np.histogram(turns, bins=4, range=(-180, 180))[0].min() > 70


def test_only_turned_crops_change_their_class() -> None:
    turns = np.array([np.nan, 120.0, np.nan, -30.0])
    assert taught_classes(np.array([0, 1, 2, 3]), turns).tolist() == [0, RANDOM, 2, RANDOM]
