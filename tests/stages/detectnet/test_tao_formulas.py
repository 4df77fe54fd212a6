"""NVIDIA's formulas by hand, where the tests of the modules do not have them.

docs/tao-parity.md lists all formulas and the test that holds each. The numbers are worked out in
the comments, from TAO 5's public source (nvidia_tao_tf1), never by the code under test.
"""

import dataclasses
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from stages.detectnet.augment import draw_colour, draw_spatial
from stages.detectnet.config import (
    AugmentConfig,
    FitConfig,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    TargetConfig,
)
from stages.detectnet.losses import coverage_loss, cross_entropy
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.optimizer import build_optimizer, prepare_step
from stages.detectnet.targets import fit_ellipses, rasterize_boxes
from stages.detectnet.training import fit
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples

ROOT = Path(__file__).parents[3]
CONF = ROOT / "conf"
TAO_FIT = FitConfig(
    epochs=4,
    batch_size=4,
    learning_rate=5e-4,
    ema_decay=0.0,
    validate_every_epochs=0,
    precision="32-true",
    accelerator="cpu",
    optimizer=OptimizerConfig(name="adam", weight_decay=0.0),
    schedule=ScheduleConfig("soft_start_annealing", 0.1, 0.7, 5e-6),
    loss=LossConfig(
        coverage="tao",
        bbox="tao",
        coverage_foreground_weight=0.05,
        bbox_weight=10.0,
        bbox_weight_target=10.0,
        autoweighting=True,
        regularizer_l1=3e-9,
    ),
)


def new_model(*, input_wh: tuple[int, int] = INPUT_WH, num_classes: int = 1) -> DetectNet:
    torch.manual_seed(3)
    architecture = build_architecture(
        10, width=8, input_wh=list(input_wh), num_classes=num_classes
    )
    return DetectNet(architecture)


def test_padding_is_symmetric() -> None:
    """Ones everywhere: an output counts the taps inside the picture, times 3 colours.

    7 x 7 taps around pixel 0 reach from -3 to 3, four of which are inside: 4 * 4 * 3 = 48. Around
    pixel 2 from -1 to 5: 6 * 6 * 3 = 108. (TensorFlow's own "same" pads 2 in front and 3 behind:
    75 in the corner.) The last output is around pixel 30 of 32, from 27 to 33: 5 * 5 * 3 = 75.
    """
    conv = new_model().get_submodule("conv1")
    nn.init.ones_(conv.weight)
    counts = conv(torch.ones(1, 3, 32, 32))[0, 0]
    assert counts.shape == (16, 16)
    assert (counts[0, 0], counts[1, 1], counts[15, 15]) == (48.0, 108.0, 75.0)


def test_batch_norm_has_keras_constants() -> None:
    """Running mean 0.99 * 0 + 0.01 * 10; a variance of 0.009 and 0.001 make 0.1, and 1 becomes
    10."""
    norm = new_model().get_submodule("block_1a_bn_1").train()
    norm(torch.full((2, 8, 2, 2), 10.0))
    assert norm.running_mean.tolist() == pytest.approx([0.1] * 8)
    norm.eval()
    norm.running_mean.zero_()
    norm.running_var.fill_(0.009)
    assert norm(torch.ones(1, 8, 1, 1)).flatten().tolist() == pytest.approx([10.0] * 8, rel=1e-6)


def test_heads_start_glorot_uniform_without_bias() -> None:
    """64 inputs: |w| <= sqrt(6 / (64 + 1)) = 0.3038 for coverage, sqrt(6 / 68) for boxes."""
    model = new_model()
    for name, limit in (("output_cov", 0.30382), ("output_bbox", 0.29704)):
        head = model.get_submodule(name)
        assert head.bias.abs().max() == 0.0
        assert 0.8 * limit < head.weight.abs().max() <= limit


def test_coverage_is_a_sigmoid_and_boxes_are_linear() -> None:
    """Heads of zeros leave the bias: sigmoid(ln 3) = 0.75; boxes -2 as they are."""
    model = new_model(num_classes=2).eval()
    for name, bias in (("output_cov", math.log(3.0)), ("output_bbox", -2.0)):
        nn.init.zeros_(model.get_submodule(name).weight)
        nn.init.constant_(model.get_submodule(name).bias, bias)
    coverage, bbox = model(torch.rand(1, 3, 64, 96))
    assert coverage.shape == (1, 2, 4, 6)
    assert bbox.shape == (1, 8, 4, 6)
    torch.testing.assert_close(coverage, torch.full_like(coverage, 0.75))
    torch.testing.assert_close(bbox, torch.full_like(bbox, -2.0))


@pytest.mark.parametrize(
    ("box", "config", "center", "radius", "deadzone", "area"),
    [
        # 10 x 5 cells: half 5, 2.5; radii 0.4 of them; dead zone 0.6 * 2 + 0.4 * 5 and half that.
        ((0, 0, 10, 5), TargetConfig(), (5, 2.5), (2, 1), (3.2, 1.6), 8),
        # Centre at 0.3 and 0.6 of 10 x 5: 3, 3; half sizes 3 (to the left) and 2 (to the bottom);
        # radii 0.4 * 3, 0.4 * 2 = 0.8, grown to 1 with the aspect: 1.5, 1. 0.6 r + 0.4 half:
        # 0.9 + 1.2, 0.6 + 0.8.
        (
            (0, 0, 10, 5),
            TargetConfig(cov_center_x=0.3, cov_center_y=0.6),
            (3, 3),
            (1.5, 1),
            (2.1, 1.4),
            6,
        ),
        # 0.1 x 1 cell: 0.4 * 0.05 = 0.02 counts as 0.1, 0.4 * 0.5 = 0.2; grown to 1, 2. The dead
        # zone would be 0.6 + 0.02 and 1.2 + 0.2, below the radii.
        ((0, 0, 0.1, 1), TargetConfig(), (0.05, 0.5), (1, 2), (1, 2), 8),
        # Radii 0.2, 0.2 stay with a minimum of 0.15; area 4 * 0.04 counts as 1.
        (
            (0, 0, 1, 1),
            TargetConfig(bbox_min_radius=0.15),
            (0.5, 0.5),
            (0.2, 0.2),
            (0.32, 0.32),
            1,
        ),
    ],
)
def test_ellipses(
    box: tuple[float, ...],
    config: TargetConfig,
    center: tuple[float, float],
    radius: tuple[float, float],
    deadzone: tuple[float, float],
    area: float,
) -> None:
    ellipses = fit_ellipses(torch.tensor([[box]], dtype=torch.float32), config)
    assert ellipses.center[0, 0].tolist() == pytest.approx(center)
    assert ellipses.radius[0, 0].tolist() == pytest.approx(radius)
    assert ellipses.deadzone[0, 0].tolist() == pytest.approx(deadzone)
    assert ellipses.inverse_area.item() == pytest.approx(1 / area)


def test_box_values_are_not_scaled_by_the_coverage() -> None:
    """Half covered cell (row 2, column 3) of the 32 x 32 box around (40, 40); its corner + 0.5 is
    (48.5, 32.5). The weight is: 0.5 / (4 * 1 * 1)."""
    box = torch.tensor([[[24.0, 24.0, 56.0, 56.0]]])
    targets = rasterize_boxes(box, torch.ones(1, 1).bool(), TargetConfig(), input_wh=INPUT_WH)
    assert targets.coverage[0, 0, 2, 3].item() == 0.5
    expected = [24.5 / 35, 8.5 / 35, 7.5 / 35, 23.5 / 35]
    assert targets.bbox[0, :, 2, 3].tolist() == pytest.approx(expected)
    assert targets.bbox_weight[0, 0, 2, 3].item() == pytest.approx(0.125)


def test_cells_of_half_coverage_are_background() -> None:
    """p = 0.5: entropy ln 2 = 0.6931 whatever the target; weights 0.05 above 0.5, else 0.95."""
    target = torch.tensor([0.5, 0.5625, 0.0, 1.0])
    entropy = cross_entropy(torch.full((4,), 0.5), target)
    assert entropy.tolist() == pytest.approx([0.693127] * 4, rel=1e-5)  # ln(0.50001)
    loss = coverage_loss(entropy, target, 0.05)
    assert loss.item() == pytest.approx(0.693127 * (0.95 + 0.05 + 0.95 + 0.05) / 4, rel=1e-5)


def test_first_step_of_adam() -> None:
    """Gradient 0.01: m = 0.001, v = 1e-7; rate 0.1 * sqrt(0.001) / 0.1 = 0.0316228; the step is
    0.0316228 * 0.001 / (0.000316228 + 0.01) = 0.00306534 (epsilon inside the correction: 0.05)."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    config = OptimizerConfig(name="adam", epsilon=1e-2)
    optimizer = build_optimizer(layer, config)
    layer.weight.grad = torch.full((1, 1), 0.01)
    prepare_step(optimizer, config, step=0, learning_rate=0.1)
    optimizer.step()
    assert 1.0 - layer.weight.item() == pytest.approx(0.00306534, rel=1e-4)


def test_loss_of_a_step_is_the_weighted_sum_and_l1() -> None:
    """Weights 1 / 11 and 10 / 11, and L1 of every kernel and bias before the only step."""
    model = new_model()
    convs = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) == 15  # conv1, 4 blocks of 3, 2 heads
    l1 = sum(layer.weight.abs().sum() + layer.bias.abs().sum() for layer in convs).item()
    loss = dataclasses.replace(TAO_FIT.loss, regularizer_l1=1e-3)
    config = dataclasses.replace(TAO_FIT, epochs=1, loss=loss)
    (row,) = train(model, config, num_samples=4)
    expected = row["coverage_loss"] / 11 + 10 * row["bbox_loss"] / 11 + 1e-3 * l1
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_follow_the_sums_of_the_epoch_before() -> None:
    """w_cov = (1 / S_cov) / (1 / S_cov + 10 / S_bbox) of the unweighted sums; means in the
    history have the same ratio."""
    first, second = train(new_model(), dataclasses.replace(TAO_FIT, epochs=2), num_samples=10)
    assert (first["coverage_weight"], first["bbox_weight"]) == pytest.approx((1 / 11, 10 / 11))
    share = first["bbox_loss"] / (first["bbox_loss"] + 10 * first["coverage_loss"])
    assert second["coverage_weight"] == pytest.approx(share)
    assert second["bbox_weight"] == pytest.approx(1 - share)


def test_learning_rate_counts_steps() -> None:
    """Ten pictures in batches of four are 3 steps an epoch, 12 in all. Last steps of the epochs:
    2 / 12, 5 / 12 and 8 / 12 lie between 0.1 and 0.7; 11 / 12: (1 - 0.916667) / 0.3 = 0.277778,
    5e-6 * 100 ** 0.277778 = 5e-6 * 3.59381."""
    rows = train(new_model(), TAO_FIT, num_samples=10)
    rates = [row["learning_rate"] for row in rows]
    assert rates == pytest.approx([5e-4, 5e-4, 5e-4, 1.796906e-5], rel=1e-5)


def train(model: DetectNet, config: FitConfig, *, num_samples: int) -> list[dict[str, float]]:
    samples = draw_samples(num_samples)
    return fit(model, samples, None, config, postprocess=POSTPROCESS, work_dir=None).history


def test_spatial_changes_come_in_nvidias_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw is a quarter of its interval, every whole number 3; 96 x 64 pixels.

    (10, 20) flipped (0.25 < 0.5): (86, 20). Moved by 3: (89, 23). Zoom 1 + 0.25 * 4 = 2 halves
    it, 44.5 and 11.5, at 0.25 * (96 - 48) = 12 and 0.25 * (64 - 32) = 8: (56.5, 19.5). Turned by
    -pi + 0.25 * 2 pi = -90 degrees about (48, 32): (8.5, -12.5) becomes (-12.5, -8.5).
    """
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.full((count,), 0.25))
    monkeypatch.setattr(torch, "randint", lambda _low, _high, size, generator: torch.full(size, 3))
    config = AugmentConfig(zoom_min=1.0, zoom_max=5.0, rotate_max_rad=math.pi)
    spatial = draw_spatial(config, 1, input_wh=(96, 64), generator=torch.Generator())
    moved = spatial[0] @ torch.tensor([10.0, 20.0, 1.0])
    assert moved.tolist() == pytest.approx([35.5, 23.5, 1.0], abs=1e-4)


def test_colour_changes_come_in_nvidias_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normal draws are at their limit, uniform ones a quarter of the way.

    (0.2, 0.4, 0.6) brighter by 0.2: (0.4, 0.6, 0.8). Saturation 1 + (2 * 0.25 - 1) * 1 = 0.5:
    luma 0.299 * 0.4 + 0.587 * 0.6 + 0.114 * 0.8 = 0.563, half way there: 0.4815, 0.5815, 0.6815.
    Contrast 0.5 about 0.5: 1.5 x - 0.25.
    """
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.full((count,), 0.25))
    monkeypatch.setattr(
        nn.init,
        "trunc_normal_",
        lambda values, _mean, deviation, low, high, _generator: values.fill_(
            high if (low, deviation) == (-high, high / 2) else float("nan")
        ),
    )
    config = AugmentConfig(
        hue_rotation_max=0.0,
        saturation_shift_max=1.0,
        contrast_scale_max=0.5,
        brightness_scale_max=0.2,
    )
    colour = draw_colour(config, 1, generator=torch.Generator())
    pixel = torch.tensor([0.2, 0.4, 0.6, 1.0]) @ colour[0]
    assert pixel.tolist() == pytest.approx([0.47225, 0.62225, 0.77225], abs=1e-5)


def test_presets_of_pruning_and_clustering_have_the_demos_constants() -> None:
    """`prune -eq union -pth 0.0000052`, otherwise NVIDIA's defaults; postprocessing_config."""
    prune = yaml.safe_load((CONF / "prune" / "tao.yaml").read_text())
    del prune["sensitivity"]  # a report of ours
    assert prune == {
        "threshold": 5.2e-6,
        "params_frac": None,
        "flops": None,
        "importance": "l2",
        "normalizer": "max",
        "equalization": "union",
        "granularity": 8,
        "min_filters": 16,
        "min_frac": 0.0,  # ours: no such bound
    }
    clustering = yaml.safe_load((CONF / "postprocess" / "tao.yaml").read_text())
    assert (clustering["cluster"], clustering["confidence"]) == ("dbscan", "sum")
    assert (clustering["coverage_threshold"], clustering["eps"]) == (0.005, 0.2)
    assert (clustering["min_samples"], clustering["confidence_threshold"]) == (1.0, 0.9)
    assert clustering["minimum_box_height"] == 20.0


def test_the_table_of_parity_names_tests_that_exist() -> None:
    table = (ROOT / "docs" / "tao-parity.md").read_text()
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", table))
    files = [*(ROOT / "tests").rglob("test_*.py")]
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    assert len(named) > 50
    assert named - defined == set()
