"""A drawn hand: where it is, what its mask covers, and that left mirrors right."""

import numpy as np
import pytest

from stages.datasets.render.hand import Placement, PosedHand, draw_hand, place_hand
from stages.datasets.render.layer import Layer
from stages.datasets.render.poses import POSES, solve_pose
from stages.datasets.render.skeleton import default_shape, pose_skeleton, rotation_matrix
from stages.datasets.render.skin import Light, random_skin

LIGHT = Light(
    np.array([0.0, -0.6, 0.8], np.float32),
    np.array([0.8, 0.8, 0.8], np.float32),
    np.array([0.4, 0.4, 0.4], np.float32),
)


def pose(name: str, *, is_left: bool = False, yaw_deg: float = 0.0) -> PosedHand:
    shape = default_shape()
    skeleton = pose_skeleton(shape, solve_pose(name, shape))
    where = Placement((200.5, 300.5), 180.0, rotation_matrix(yaw_deg, 0.0, 0.0), is_left)
    return place_hand(shape, skeleton, where)


def draw(hand: PosedHand, tone: float = 0.3) -> Layer:
    skin = random_skin(np.random.default_rng(0), tone)
    return draw_hand(hand, skin, LIGHT, wrist_radius=25.0)


def test_joints_are_inside_the_mask() -> None:
    hand = pose("stop")
    layer = draw(hand)
    assert layer.mask is not None
    for x, y, _ in hand.joints[5:]:
        column, row = int(x) - layer.origin[0], int(y) - layer.origin[1]
        assert layer.mask[row, column] == pytest.approx(1.0)


@pytest.mark.parametrize("name", POSES)
@pytest.mark.parametrize("yaw_deg", [0.0, 180.0])
def test_mask_ends_at_the_wrist_and_lies_within_alpha(name: str, yaw_deg: float) -> None:
    layer = draw(pose(name, yaw_deg=yaw_deg))
    assert layer.mask is not None
    rows = np.flatnonzero((layer.mask > 0.5).any(axis=1)) + layer.origin[1]
    assert 290 <= rows[-1] <= 312, "the wrist is at row 300"
    assert (layer.mask <= layer.alpha + 1e-5).all()


def test_left_hand_mirrors_the_right() -> None:
    right, left = pose("two"), pose("two", is_left=True)
    np.testing.assert_allclose(left.joints[:, 0] - 200.5, 200.5 - right.joints[:, 0], atol=1e-3)
    np.testing.assert_allclose(left.joints[:, 1:], right.joints[:, 1:], atol=1e-3)
    masks = [draw(hand).mask for hand in (right, left)]
    assert masks[0] is not None
    assert masks[1] is not None
    assert masks[0].sum() == pytest.approx(masks[1].sum(), rel=0.01)


def test_canvas_holds_the_whole_hand() -> None:
    for name in POSES:
        mask = draw(pose(name)).mask
        assert mask is not None
        assert mask[0].max() == mask[:, 0].max() == mask[:, -1].max() == 0.0


def test_dark_skin_is_drawn_darker() -> None:
    hand = pose("stop", yaw_deg=180.0)
    means = []
    for tone in (0.1, 0.5, 0.9):
        layer = draw(hand, tone)
        means.append(float(layer.colour[layer.alpha > 0.9].mean()))
    assert means[0] > means[1] > means[2]
    assert means[0] > 2 * means[2]


def test_fist_is_smaller_than_the_open_hand() -> None:
    areas = {}
    for name in ("fist", "stop"):
        mask = draw(pose(name)).mask
        assert mask is not None
        areas[name] = mask.sum()
    assert areas["fist"] < 0.8 * areas["stop"]
