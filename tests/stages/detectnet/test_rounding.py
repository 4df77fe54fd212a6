import pytest
import torch

from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.rounding import (
    Round,
    observer_names,
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
