from pathlib import Path

import torch
import yaml

from stages.gesturenet.model import (
    Architecture,
    GestureClassifier,
    count_macs,
    count_parameters,
    fold_batch_norm,
)


def resnet18_macs(side: int) -> int:
    """Count ResNet18's multiply-accumulates at side x side (He et al. 2015, table 1)."""
    side //= 2
    total = side * side * 7 * 7 * 3 * 64
    side //= 2
    channels = 64
    for stage in range(4):
        out = 64 * 2**stage
        side = side if stage == 0 else side // 2
        total += side * side * 9 * (channels * out + 3 * out * out)
        total += 0 if stage == 0 else side * side * channels * out
        channels = out
    return total + channels * 6


def trained_like(width: int = 8) -> GestureClassifier:
    """A network whose batch statistics are not the initial ones."""
    torch.manual_seed(0)
    model = GestureClassifier(Architecture(width=width))
    for _step in range(3):
        model(torch.rand(4, 3, 64, 64))
    return model.eval()


def test_resnet18_reference_is_the_published_one() -> None:
    assert round(resnet18_macs(224) / 1e9, 2) == 1.81


def test_default_network_costs_less_than_a_quarter_of_resnet18() -> None:
    model = GestureClassifier(Architecture())
    assert count_macs(model, (160, 160)) <= resnet18_macs(160) / 4
    assert count_macs(model, (160, 160)) < 45e6  # the runtime's budget, per hand and frame


def test_the_strong_recipe_costs_less_than_a_quarter_of_resnet18_too() -> None:
    preset = Path(__file__).parents[3] / "conf" / "gesture" / "real.yaml"
    keys = yaml.safe_load(preset.read_text())
    model = GestureClassifier(Architecture(width=keys["width"], blocks=tuple(keys["blocks"])))
    assert count_macs(model, (160, 160)) <= resnet18_macs(160) / 4


def test_more_blocks_add_what_they_cost_and_change_no_shape() -> None:
    deep = GestureClassifier(Architecture(width=4, blocks=(1, 3, 2))).eval()
    extra = 2 * 2 * 2 * 19 * 16**2 + 19 * 32**2  # at 2x2 and 1x1 cells: two kernels, a shortcut
    plain = GestureClassifier(Architecture(width=4))
    assert count_macs(deep, (32, 32)) == count_macs(plain, (32, 32)) + extra
    fine, coarse = deep.features(torch.rand(2, 3, 64, 64))
    assert (fine.shape, coarse.shape) == ((2, 16, 4, 4), (2, 32, 2, 2))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(fold_batch_norm(deep)(images), deep(images), rtol=0, atol=1e-5)


def test_macs_and_parameters_by_hand() -> None:
    model = GestureClassifier(Architecture(width=4, num_classes=6))
    stem = 8 * 8 * 4 * 3 * 36  # 32 pixels / 4
    blocks = [(4, 8, 4), (8, 16, 2), (16, 32, 1)]
    body = sum(side * side * (9 * i * o + 9 * o * o + i * o) for i, o, side in blocks)
    assert count_macs(model, (32, 32)) == stem + body + 32 * 6
    kernels = 4 * 3 * 36 + sum(9 * i * o + 9 * o * o + i * o for i, o, _ in blocks)
    norms = 2 * 4 + sum(3 * 2 * o for _, o, _ in blocks)
    assert count_parameters(model) == kernels + norms + 32 * 6 + 6


def test_counting_changes_nothing() -> None:
    model = trained_like().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, (64, 64))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_output_is_a_probability_for_every_multiple_of_32() -> None:
    model = trained_like()
    for height, width in ((32, 32), (96, 160)):
        scores = model(torch.rand(2, 3, height, width))
        assert scores.shape == (2, 6)
        assert torch.allclose(scores.sum(dim=1), torch.ones(2))


def test_temperature_divides_the_logits() -> None:
    model = trained_like()
    images = torch.rand(2, 3, 64, 64)
    model.temperature.fill_(2.0)
    expected = torch.softmax(model.logits(images) / 2.0, dim=1)
    assert torch.equal(model(images), expected)


def test_folding_keeps_the_outputs_and_the_original() -> None:
    model = trained_like()
    model.temperature.fill_(1.5)
    images = torch.rand(3, 3, 64, 64)
    expected = model.logits(images)
    folded = fold_batch_norm(model)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    # float32 rounding of other products in another order
    assert torch.allclose(folded.logits(images), expected, atol=1e-5)
    assert torch.equal(model.logits(images), expected)
    assert folded.temperature == 1.5
