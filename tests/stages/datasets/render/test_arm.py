"""Forearms go where they are wished to, as far as a wrist bends."""

import numpy as np
import pytest

from stages.datasets.render.arm import ArmPlan, draw_arm
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.scene import Person, random_light, random_person

WH = (400, 400)
WRIST = np.array([200.0, 200.0])


def bare_arm() -> Person:
    config = RenderConfig(bare_arm_frac=1.0)
    return random_person(np.random.default_rng(1), "train", config)


def drawn_direction_deg(plan: ArmPlan) -> float:
    """Angle of the forearm's middle from straight below the wrist, to the right."""
    (layer,) = draw_arm(
        WRIST, plan, bare_arm(), random_light(np.random.default_rng(2)), frame_wh=WH
    )
    rows, columns = np.nonzero(layer.alpha > 0.5)
    x = columns.mean() + layer.origin[0] - WRIST[0]
    y = rows.mean() + layer.origin[1] - WRIST[1]
    return float(np.degrees(np.arctan2(x, y)))


@pytest.mark.parametrize(
    ("target", "max_bend_deg", "expected_deg"),
    [
        ((200.0, 400.0), 48.0, 0.0),
        ((340.0, 340.0), 48.0, 45.0),
        ((60.0, 340.0), 48.0, -45.0),
        ((400.0, 200.0), 48.0, 48.0),
        ((400.0, 200.0), 120.0, 90.0),
        ((0.0, 200.0), 120.0, -90.0),
    ],
)
def test_a_forearm_points_to_its_target_within_the_bend_of_the_wrist(
    target: tuple[float, float], max_bend_deg: float, expected_deg: float
) -> None:
    plan = ArmPlan(target, None, 100.0, 0.0, 12.0, max_bend_deg)
    assert drawn_direction_deg(plan) == pytest.approx(expected_deg, abs=4.0)
