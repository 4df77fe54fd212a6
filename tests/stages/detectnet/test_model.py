"""The network against NVIDIA's layer table."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.detectnet.model import (
    Architecture,
    DetectNet,
    build_architecture,
    build_network,
    count_parameters,
    iterate_blocks,
    replace_activation,
)

REPEATS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def expected_parameters(num_layers: int, *, width: int, all_projections: bool) -> int:
    """Kernel, bias and batch normalisation of every layer of a ResNet with two heads."""

    def unit(inputs: int, outputs: int, kernel: int) -> int:
        return inputs * outputs * kernel**2 + outputs + 2 * outputs

    total, inputs = unit(3, width, 7), width
    for stage, repeats in enumerate(REPEATS[num_layers]):
        outputs = width * 2**stage
        for index in range(repeats):
            total += unit(inputs, outputs, 3) + unit(outputs, outputs, 3)
            total += unit(inputs, outputs, 1) if index == 0 or all_projections else 0
            inputs = outputs
    return total + 5 * inputs + 5


@pytest.mark.parametrize("all_projections", [True, False])
@pytest.mark.parametrize(("num_layers", "width"), [(10, 16), (18, 64), (34, 64)])
def test_parameter_count(num_layers: int, width: int, all_projections: bool) -> None:
    architecture = build_architecture(
        num_layers, width=width, input_wh=[320, 192], all_projections=all_projections
    )
    with torch.device("meta"):
        model = DetectNet(architecture)
    expected = expected_parameters(num_layers, width=width, all_projections=all_projections)
    assert count_parameters(model) == expected


@pytest.mark.parametrize("num_classes", [1, 3])
def test_output_shapes_and_ranges(num_classes: int) -> None:
    architecture = build_architecture(
        10, width=8, num_classes=num_classes, input_wh=[96, 64], all_projections=False
    )
    coverage, bbox = DetectNet(architecture)(torch.rand(2, 3, 64, 96))
    assert coverage.shape == (2, num_classes, 4, 6)
    assert bbox.shape == (2, 4 * num_classes, 4, 6)
    assert coverage.min() > 0
    assert coverage.max() < 1


def test_outputs_are_float32_under_autocast() -> None:
    model = DetectNet(build_architecture(10, width=8, input_wh=[32, 32]))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.rand(1, 3, 32, 32))
    assert {output.dtype for output in outputs} == {torch.float32}


def test_layer_names_and_constants_are_nvidias() -> None:
    model = DetectNet(build_architecture(18, width=8, input_wh=[32, 32], all_projections=False))
    names = {name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    assert {"conv1", "block_4b_conv_2", "output_cov", "output_bbox"} <= names
    shortcuts = {name for name in names if name.endswith("_conv_shortcut")}
    assert shortcuts == {f"block_{stage}a_conv_shortcut" for stage in (1, 2, 3, 4)}
    norm = model.get_submodule("block_1a_bn_shortcut")
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    strides = [block.stride for block in iterate_blocks(18, all_projections=False)]
    assert strides == [2, 1, 2, 1, 2, 1, 1, 1]


def test_residual_is_what_the_block_adds() -> None:
    """With conv_2's normalisation at 0 and an identity shortcut a block passes its input on."""
    model = DetectNet(build_architecture(18, width=8, input_wh=[32, 32], all_projections=False))
    nn.init.zeros_(model.get_submodule("block_1b_bn_2").weight)
    seen = {}
    for name in ("block_1a_relu", "block_1b_relu"):
        hook = lambda _layer, _inputs, output, name=name: seen.update({name: output})  # noqa: E731
        model.get_submodule(name).register_forward_hook(hook)
    model(torch.rand(1, 3, 32, 32))
    assert torch.equal(seen["block_1a_relu"], seen["block_1b_relu"])


def test_equal_seeds_build_equal_networks_of_any_shape() -> None:
    even = build_architecture(10, width=8, input_wh=[64, 32])
    odd = replace(even, channels={**even.channels, "block_2a_conv_1": 5})
    for architecture in (even, odd):
        first, again, other = (build_network(architecture, seed=seed) for seed in (1, 1, 2))
        assert first.architecture == architecture
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name])
        assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_another_activation_keeps_the_weights() -> None:
    """One channel of conv1 at 7: ReLU passes it, ReLU6 cuts it to 6."""
    model = DetectNet(build_architecture(10, width=8, input_wh=[32, 32])).eval()
    model.get_submodule("conv1").bias.data[0] = 7.0 * (1.0 + 1e-3) ** 0.5
    changed = replace_activation(model, "relu6")
    assert (model.architecture.activation, changed.architecture.activation) == ("relu", "relu6")
    largest = {}
    for name, network in (("relu", model), ("relu6", changed)):
        network.get_submodule("conv1_relu").register_forward_hook(
            lambda _layer, _inputs, output, name=name: largest.update({name: output[0, 0].max()})
        )
        network(torch.zeros(1, 3, 32, 32))
    assert largest["relu"].item() == pytest.approx(7.0, rel=1e-5)
    assert largest["relu6"].item() == 6.0
    ours, theirs = model.state_dict(), changed.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 50}, "num_layers is 50"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"all_projections": False, "num_layers": 18}, "lack or add"),
    ],
)
def test_impossible_architectures_are_refused(changes: dict[str, object], message: str) -> None:
    good = build_architecture(10, width=8, input_wh=[32, 32])
    with pytest.raises(ValueError, match=message):
        Architecture(**{**vars(good), **changes})


def test_unequal_residual_channels_are_refused() -> None:
    good = build_architecture(10, width=8, input_wh=[32, 32])
    channels = {**good.channels, "block_2a_conv_2": 12}
    with pytest.raises(ValueError, match="block_2a adds 12 channels to a shortcut of 16"):
        Architecture(**{**vars(good), "channels": channels})
