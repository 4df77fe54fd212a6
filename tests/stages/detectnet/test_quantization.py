"""modelopt takes seconds to import, so one quantized network serves most tests here."""

import copy

import pytest
import torch

from stages.detectnet.compression_config import CalibrationConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import fold_batch_norm, is_folded
from stages.detectnet.quantization import (
    is_quantized,
    quantize_model,
    read_ranges,
    strip_quantizers,
)
from stages.detectnet.rounding import observer_names, quantizer_names, round_model
from tests.stages.detectnet.tiny import known_ranges, tiny_images, tiny_model


def quantize(model, **options):
    return quantize_model(
        model, [tiny_images()], CalibrationConfig(**options), quantize_heads=True
    )


@pytest.fixture(scope="module")
def quantized():
    return quantize(tiny_model())


def test_ranges_are_the_largest_values_seen(quantized):
    model = tiny_model()
    expected = known_ranges(fold_batch_norm(model), tiny_images())
    found = read_ranges(quantized)
    assert found.keys() == expected.keys()
    for name, largest in expected.items():
        assert torch.allclose(found[name], largest, rtol=1e-5), name


def test_only_the_named_quantizers_round(quantized):
    enabled = {
        name
        for name, module in quantized.named_modules()
        if name.endswith("_quantizer") and module.is_enabled
    }
    assert enabled == set(quantizer_names(quantized, quantize_heads=True))
    assert not enabled & set(observer_names(quantized))


def test_inference_rounds_like_training(quantized):
    """A value within 1e-6 of a tie may tip by one step, 1/127 of a range, and so on through
    the layers: hence 0.01 at the end, where the float network is 3 times as far away."""
    rounded = round_model(strip_quantizers(quantized), read_ranges(quantized))
    with torch.no_grad():
        expected, found = quantized(tiny_images()), rounded(tiny_images())
    assert (found.coverage - expected.coverage).abs().max() < 0.01
    assert (found.coverage - expected.coverage).abs().mean() < 0.001


def test_the_float_network_comes_back_out(quantized):
    plain = strip_quantizers(quantized)
    with torch.no_grad():
        expected, found = tiny_model()(tiny_images()), plain(tiny_images())
    assert is_folded(plain)
    assert not is_quantized(plain)
    assert torch.allclose(found.bbox, expected.bbox, atol=1e-4)


def test_the_argument_is_left_alone():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    quantize(model)
    assert not is_quantized(model)
    assert not is_folded(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_reach_every_kernel(quantized):
    model = copy.deepcopy(quantized).train()
    outputs = model(tiny_images())
    (outputs.coverage.mean() + outputs.bbox.abs().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_percentile_cuts_outliers_off(quantized):
    tight = read_ranges(quantize(tiny_model(), method="percentile", percentile=90.0))
    wide = read_ranges(quantized)
    name = "block_1a_relu.output_quantizer"
    assert tight[name] < 0.9 * wide[name]
    assert torch.equal(tight["conv1.weight_quantizer"], wide["conv1.weight_quantizer"])


def test_dead_channels_get_a_range_that_represents_them():
    model = tiny_model()
    with torch.no_grad():
        model.block_3a_bn_1.weight[0] = 0.0
        model.block_3a_bn_1.bias.fill_(-9.0)
    quantized = quantize(model)
    ranges = read_ranges(quantized)
    assert ranges["block_3a_conv_1.weight_quantizer"][0] == 1.0
    assert ranges["block_3a_relu_1.output_quantizer"] == 1.0
    rounded = round_model(strip_quantizers(quantized), ranges)
    with torch.no_grad():
        assert torch.isfinite(rounded(tiny_images()).bbox).all()


def test_a_quantized_network_is_not_quantized_again(quantized):
    with pytest.raises(DetectNetError, match="starts from models/prune"):
        quantize(quantized)
