"""Hands drawn for the classifier: every gesture, equal bytes for equal seeds, work is `random`."""

import numpy as np
import pytest

from deploy.core.roi import RoiRule
from stages.gesturenet.config import GESTURES, DrawnConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.drawn_hands import draw_crops

RULE = RoiRule(mode="ratio", ratio=2.0, square=True, border="pad")
RANDOM = GESTURES.index("random")


def draw(*, workers: int = 1, **changes: object) -> Crops:
    config = DrawnConfig(**{"videos": 3, "table_work_frac": 0.0, **changes})  # type: ignore[arg-type]
    return draw_crops(config, rule=RULE, size_px=64, workers=workers)


def test_videos_of_gestures_have_several_of_them() -> None:
    crops = draw()
    assert crops.images.shape[1:] == (64, 64, 3)
    assert len(crops.names) == len(set(crops.names)) == len(crops.class_id) > 6
    assert len(set(crops.class_id.tolist())) >= 4
    middle = (crops.boxes[:, :2] + crops.boxes[:, 2:]) / 2
    assert np.abs(middle - 32).max() < 1.5
    longer = (crops.boxes[:, 2:] - crops.boxes[:, :2]).max(axis=1)
    assert longer == pytest.approx(32, abs=1.0)


def test_joints_are_on_the_hands() -> None:
    crops = draw()
    assert crops.joints.shape == (len(crops.names), 21, 2)
    low, high = crops.joints.min(axis=1), crops.joints.max(axis=1)
    sides = crops.boxes[:, 2:] - crops.boxes[:, :2]
    assert np.median(np.abs(low - crops.boxes[:, :2]) / sides) < 0.15
    assert np.median(np.abs(high - crops.boxes[:, 2:]) / sides) < 0.15
    bones = np.linalg.norm(crops.joints[:, 8] - crops.joints[:, 7], axis=1)
    assert (bones < 0.5 * sides.max(axis=1)).all()


def test_people_at_work_show_no_gesture() -> None:
    crops = draw(table_work_frac=1.0)
    assert set(crops.class_id.tolist()) == {RANDOM}


def test_the_share_of_work_is_of_videos() -> None:
    mixed, work = draw(videos=2, table_work_frac=0.5), draw(videos=2, table_work_frac=1.0)
    first = [name for name in mixed.names if name.startswith("drawn_0_")]
    assert first == [name for name in work.names if name.startswith("drawn_0_")]
    assert set(mixed.class_id.tolist()) > {RANDOM}


def test_workers_do_not_matter_and_seeds_do() -> None:
    alone, together, other = draw(videos=2), draw(videos=2, workers=2), draw(videos=2, seed=8)
    assert alone.names == together.names
    assert np.array_equal(alone.images, together.images)
    assert not np.array_equal(alone.images[0], other.images[0])
