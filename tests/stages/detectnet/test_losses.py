"""Losses by hand on maps of two cells."""

import math

import pytest
import torch
from torch import nn

from stages.detectnet.config import LossConfig
from stages.detectnet.losses import (
    LossTerms,
    LossWeights,
    compute_losses,
    initial_weights,
    l1_regularizer,
    update_weights,
    weigh,
)
from stages.detectnet.model import Outputs
from stages.detectnet.targets import Targets

TAO = LossConfig(
    coverage="tao",
    bbox="tao",
    coverage_foreground_weight=0.05,
    bbox_weight=10.0,
    bbox_weight_target=10.0,
    autoweighting=True,
)


def maps(*cells: float) -> torch.Tensor:
    """(1, 1, 1, 2)"""
    return torch.tensor(cells).view(1, 1, 1, 2)


def boxes(first: tuple[float, ...], second: tuple[float, ...]) -> torch.Tensor:
    """(1, 4, 1, 2)"""
    return torch.tensor([first, second]).T.reshape(1, 4, 1, 2)


OUTPUTS = Outputs(maps(0.8, 0.3), boxes((1.0, 1.0, 1.0, 1.0), (9.0, 9.0, 9.0, 9.0)))
TARGETS = Targets(
    maps(0.75, 0.0), boxes((1.5, 1.0, 2.0, 1.0), (0.0, 0.0, 0.0, 0.0)), maps(0.25, 0.0)
)
FIRST = -(0.75 * math.log(0.8) + 0.25 * math.log(0.2))
SECOND = -math.log(0.7)


@pytest.mark.parametrize(
    ("coverage", "bbox", "expected"),
    [
        # Weights 0.05 and 0.95, mean over 2 cells; box errors .5, 0, 1, 0 times .25 over 8 values.
        ("tao", "tao", ((0.05 * FIRST + 0.95 * SECOND) / 2, 0.25 * 1.5 / 8)),
        # One covered and one empty cell; mean error 0.375 of the one cell, its weight sum below 1.
        ("balanced", "normalized", (0.05 * FIRST + 0.95 * SECOND, 0.25 * 0.375)),
        # Squared errors times cross-entropy, over the sum of targets (0.75, at least 1).
        ("focal", "tao", (0.05**2 * FIRST + 0.3**2 * SECOND, 0.25 * 1.5 / 8)),
        # Sides 1, 1, 1, 1 in 1.5, 1, 2, 1: shared 4, union = hull = 7; weight .75, at least 1.
        ("tao", "giou", ((0.05 * FIRST + 0.95 * SECOND) / 2, 0.75 * (1 - 4 / 7))),
        (
            "tao",
            "normalized+giou",
            ((0.05 * FIRST + 0.95 * SECOND) / 2, 0.25 * 0.375 + 0.75 * (1 - 4 / 7)),
        ),
    ],
)
def test_both_terms(coverage: str, bbox: str, expected: tuple[float, float]) -> None:
    config = LossConfig(coverage=coverage, bbox=bbox, coverage_foreground_weight=0.05)
    terms = compute_losses(OUTPUTS, TARGETS, config)
    assert [float(term) for term in terms] == pytest.approx(expected, rel=1e-3)


def test_covered_cells_may_aim_at_the_fit_of_their_box() -> None:
    """The first cell's box has IoU 4 / 7 with the truth; the empty one still aims at 0."""
    config = LossConfig(coverage="tao", coverage_target="iou", coverage_foreground_weight=0.05)
    aim = 4 / 7
    first = -(aim * math.log(0.8) + (1 - aim) * math.log(0.2))
    terms = compute_losses(OUTPUTS, TARGETS, config)
    assert float(terms.coverage) == pytest.approx((0.05 * first + 0.95 * SECOND) / 2, rel=1e-3)


def test_the_aim_has_no_gradient_of_its_own() -> None:
    bbox = OUTPUTS.bbox.clone().requires_grad_()
    config = LossConfig(coverage="tao", coverage_target="iou")
    terms = compute_losses(Outputs(OUTPUTS.coverage, bbox), TARGETS, config)
    assert not terms.coverage.requires_grad


@pytest.mark.parametrize("bbox", ["tao", "normalized", "giou", "normalized+giou"])
@pytest.mark.parametrize("coverage", ["tao", "balanced", "focal"])
def test_perfect_maps_cost_nothing(coverage: str, bbox: str) -> None:
    targets = Targets(maps(1.0, 0.0), TARGETS.bbox, maps(1.0, 0.0))
    outputs = Outputs(targets.coverage.clone(), targets.bbox)
    terms = compute_losses(outputs, targets, LossConfig(coverage=coverage, bbox=bbox))
    assert [float(term) for term in terms] == pytest.approx([0.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("bbox", ["tao", "normalized", "giou", "normalized+giou"])
@pytest.mark.parametrize("coverage", ["tao", "balanced", "focal"])
def test_pictures_without_boxes_have_finite_gradients(coverage: str, bbox: str) -> None:
    raw = torch.zeros(1, 5, 1, 2, requires_grad=True)
    outputs = Outputs(torch.sigmoid(raw[:, :1]), raw[:, 1:])
    empty = Targets(maps(0.0, 0.0), torch.zeros(1, 4, 1, 2), maps(0.0, 0.0))
    terms = compute_losses(outputs, empty, LossConfig(coverage=coverage, bbox=bbox))
    weigh(terms, LossWeights(0.5, 0.5)).backward()
    assert raw.grad is not None
    assert bool(raw.grad.isfinite().all())
    assert terms.bbox.detach().item() == 0.0


def test_saturated_coverage_stays_finite() -> None:
    outputs = Outputs(maps(0.0, 1.0), TARGETS.bbox)
    terms = compute_losses(outputs, Targets(maps(1.0, 0.0), *TARGETS[1:]), LossConfig())
    assert float(terms.coverage) == pytest.approx(-math.log(1e-5), rel=1e-3)


def test_weights_start_normalised() -> None:
    assert initial_weights(TAO) == pytest.approx((1 / 11, 10 / 11))


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        # (1 / 2) / (1 / 2 + 10 / 4) and (10 / 4) / 3
        ((2.0, 4.0), (1 / 6, 5 / 6)),
        ((0.0, 4.0), (1e-4, 0.9999)),
        ((2.0, 0.0), (0.9999, 1e-4)),
        ((0.0, 0.0), (0.3, 0.7)),
        ((1e-9, 1.0), (0.9999, 1e-4)),
    ],
)
def test_autoweighting(sums: tuple[float, float], expected: tuple[float, float]) -> None:
    updated = update_weights(LossWeights(0.3, 0.7), LossWeights(*sums), TAO)
    assert updated == pytest.approx(expected, abs=1e-6)


def test_weights_stay_without_autoweighting() -> None:
    old = LossWeights(0.3, 0.7)
    assert update_weights(old, LossWeights(2.0, 4.0), LossConfig()) == old


def test_weigh_adds_up() -> None:
    terms = LossTerms(torch.tensor(2.0), torch.tensor(3.0))
    assert float(weigh(terms, LossWeights(0.25, 0.75))) == 2.75


def test_regularizer_counts_convolutions_alone() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0.5, -0.25]))
    assert l1_regularizer(model).detach().item() == 3.75
    assert l1_regularizer(nn.BatchNorm2d(2)).item() == 0.0
