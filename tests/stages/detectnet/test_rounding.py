import pytest
import torch

from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.rounding import (
    Round,
    observer_names,
    placement_of,
    quantizer_names,
    round_model,
)
from tests.stages.detectnet.tiny import known_ranges, tiny_images, tiny_model


def test_values_round_to_even_steps_and_clip():
    """Range 127 means steps of 1: -128 to 127."""
    values = torch.tensor([0.5, 1.5, -0.5, 126.6, 300.0, -300.0, 0.0])
    found = Round(torch.tensor([127.0]))(values)
    assert found.tolist() == [0.0, 2.0, 0.0, 127.0, 127.0, -128.0, 0.0]


def test_rounded_network_is_near_the_float_one_but_not_equal():
    model = fold_batch_norm(tiny_model())
    rounded = round_model(model, known_ranges(model, tiny_images()))
    with torch.no_grad():
        expected, found = model(tiny_images()), rounded(tiny_images())
    difference = (found.coverage - expected.coverage).abs().max().item()
    assert 1e-5 < difference < 0.05


def test_kernels_and_activations_have_at_most_256_values_a_channel():
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images())
    rounded = round_model(model, ranges)
    seen = {}
    rounded.get_submodule("block_2a_relu").register_forward_hook(
        lambda _layer, _inputs, output: seen.setdefault("relu", output)
    )
    with torch.no_grad():
        rounded(tiny_images())
    steps = seen["relu"] / (ranges["block_2a_relu.output_quantizer"] / 127)
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert seen["relu"].unique().numel() <= 128


def test_heads_without_a_range_keep_their_kernels():
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images(), quantize_heads=False)
    rounded = round_model(model, ranges)
    assert type(rounded.get_submodule("output_cov")) is torch.nn.Conv2d
    assert type(rounded.get_submodule("conv1")) is not torch.nn.Conv2d


@pytest.mark.parametrize(("all_projections", "shortcuts"), [(True, 8), (False, 4)])
def test_every_tensor_is_rounded_once(all_projections, shortcuts):
    """Kernels of 1 + 2 * 8 convolutions, the shortcuts and 2 heads; input, ReLUs, shortcuts."""
    model = tiny_model(num_layers=18, all_projections=all_projections)
    names = quantizer_names(model, quantize_heads=True)
    kernels = [name for name in names if name.endswith("weight_quantizer")]
    assert len(kernels) == 17 + shortcuts + 2
    assert len(names) - len(kernels) == 1 + 17 + shortcuts
    assert len(observer_names(model)) == 8
    assert not set(observer_names(model)) & set(names)


def test_tao_placement_rounds_both_inputs_and_the_sum_of_each_addition():
    """Its ranges say so: 8 more main branches and 8 sums than "fused", and nothing observed."""
    model = fold_batch_norm(tiny_model(num_layers=18))
    names = quantizer_names(model, quantize_heads=False, placement="tao")
    fused = quantizer_names(model, quantize_heads=False)
    added = {
        f"block_{stage}{letter}_{name}.output_quantizer"
        for stage in (1, 2, 3, 4)
        for letter in "ab"
        for name in ("conv_2", "add")
    }
    assert set(names) - set(fused) == added
    assert observer_names(model, placement="tao") == []
    assert placement_of(known_ranges(model, tiny_images(), placement="tao")) == "tao"
    assert placement_of(known_ranges(model, tiny_images())) == "fused"


def test_sums_are_rounded_by_their_own_range():
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images(), placement="tao")
    rounded = round_model(model, ranges)
    seen = {}
    for name in ("block_3a_add", "block_3a_conv_2"):
        rounded.get_submodule(name).register_forward_hook(
            lambda _layer, _inputs, output, name=name: seen.setdefault(name, output)
        )
    with torch.no_grad():
        rounded(tiny_images())
    for name, values in seen.items():
        steps = values / (ranges[f"{name}.output_quantizer"] / 127)
        assert torch.allclose(steps, steps.round(), atol=1e-3), name


def test_a_kernel_with_one_range_has_one_step():
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images(), weight_axis="tensor")
    conv = round_model(model, ranges).get_submodule("block_2a_conv_1")
    step = ranges["block_2a_conv_1.weight_quantizer"] / 127
    steps = conv._rounded_kernel() / step
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    largest = steps.abs().flatten(1).amax(dim=1).round()
    assert largest.max() == 127
    assert largest.min() < 127
