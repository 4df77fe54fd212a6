"""modelopt takes seconds to import, so one quantized network serves most tests here."""

import copy
import dataclasses

import pytest
import torch

from stages.detectnet.compression_config import CalibrationConfig, RetrainConfig
from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import absorb_biases_inplace, fold_batch_norm, is_folded
from stages.detectnet.model import replace_activation
from stages.detectnet.quantization import (
    is_quantized,
    quantize_model,
    read_ranges,
    strip_quantizers,
)
from stages.detectnet.rounding import observer_names, quantizer_names, round_model
from stages.detectnet.training import fit
from tests.stages.detectnet.pictures import POSTPROCESS, draw_samples
from tests.stages.detectnet.tiny import known_ranges, tiny_images, tiny_model

FOLDED = RetrainConfig(fold_batch_norm=True, range_rule="calibrated")
TAO = RetrainConfig(
    activation="relu6",
    fold_batch_norm=False,
    placement="tao",
    weight_axis="tensor",
    range_rule="moving_average",
    range_decay=0.999,
    quantize_heads=False,
)


def quantize(model, config=FOLDED, **calibration):
    config = dataclasses.replace(config, calibration=CalibrationConfig(**calibration))
    return quantize_model(model, [tiny_images()], config)


@pytest.fixture(scope="module")
def quantized():
    return quantize(tiny_model())


@pytest.fixture(scope="module")
def quantized_as_tao():
    """Quantized as NVIDIA does, after one training step, which sets the ranges."""
    model = quantize(replace_activation(tiny_model(), "relu6"), TAO).train()
    model(tiny_images())
    return model.eval()


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


def enabled_quantizers(model):
    return {
        name
        for name, module in model.named_modules()
        if name.endswith("_quantizer") and module.is_enabled
    }


def test_tao_rounds_where_nvidia_does(quantized_as_tao):
    """Per block: relu_1, bn_2, bn_shortcut, the sum and relu; kernels of the trunk; the input."""
    outputs, kernels = {"conv1_relu"}, {"conv1"}
    for block in ("block_1a", "block_2a", "block_3a", "block_4a"):
        outputs |= {f"{block}_{name}" for name in ("relu_1", "bn_2", "bn_shortcut", "add", "relu")}
        kernels |= {f"{block}_conv_{name}" for name in ("1", "2", "shortcut")}
    assert enabled_quantizers(quantized_as_tao) == {
        "conv1.input_quantizer",
        *(f"{name}.output_quantizer" for name in outputs),
        *(f"{name}.weight_quantizer" for name in kernels),
    }


def test_tao_has_no_second_rounding_of_an_identity_shortcut():
    model = tiny_model(num_layers=18, all_projections=False)
    names = enabled_quantizers(quantize(model, TAO))
    assert "block_1b_bn_2.output_quantizer" in names
    assert "block_1b_add.output_quantizer" in names
    assert not [name for name in names if name.startswith("block_1b_bn_shortcut")]
    assert (
        len(names) == 17 + 4 + 1 + 17 + 8 + 4 + 8
    )  # kernels; input; ReLUs, bn_2, shortcuts, sums


def test_tao_rounds_each_kernel_by_one_range(quantized_as_tao):
    conv = quantized_as_tao.get_submodule("block_2a_conv_1")
    step = conv.weight.detach().abs().max() / 127
    steps = conv.weight_quantizer(conv.weight.detach()) / step
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert steps.abs().max().round() == 127


def test_tao_ranges_of_activations_are_those_of_the_first_step(quantized_as_tao):
    """The average has no pull of its start: after one step it is that batch's largest value."""
    ranges = read_ranges(quantized_as_tao)
    largest = tiny_images().abs().max().item()
    assert ranges["conv1.input_quantizer"].item() == pytest.approx(largest, rel=1e-6)
    for name, value in ranges.items():
        if name.endswith(("relu.output_quantizer", "relu_1.output_quantizer")):
            assert value.item() <= 6.0 * (1.0 + 1e-6), name


def test_ranges_of_folded_kernels_have_the_factors_of_the_normalisation(quantized_as_tao):
    """Channel f of a kernel w becomes w * gamma / sqrt(variance + 0.001), and so does its step."""
    conv = quantized_as_tao.get_submodule("block_1a_conv_2")
    norm = quantized_as_tao.get_submodule("block_1a_bn_2")
    factor = (norm.weight / (norm.running_var + 0.001).sqrt()).detach().abs()
    found = read_ranges(quantized_as_tao)["block_1a_conv_2.weight_quantizer"]
    assert torch.allclose(found, conv.weight.detach().abs().max() * factor, rtol=1e-5)


def test_a_tao_network_is_the_same_when_folded(quantized_as_tao):
    """Tolerances as for the default above; without a value that tips over it is 1e-7."""
    ranges = read_ranges(quantized_as_tao)
    rounded = round_model(strip_quantizers(quantized_as_tao), ranges)
    with torch.no_grad():
        expected, found = quantized_as_tao(tiny_images()), rounded(tiny_images())
    assert is_folded(rounded)
    assert (found.coverage - expected.coverage).abs().max() < 0.01
    assert (found.coverage - expected.coverage).abs().mean() < 0.001


def test_quantized_networks_keep_their_biases_while_they_train(quantized, quantized_as_tao):
    for model in (quantized, quantized_as_tao):
        before = model.get_parameter("conv1.bias").detach().clone()
        assert not absorb_biases_inplace(model)
        assert torch.equal(model.get_parameter("conv1.bias"), before)
        assert float(before.abs().max()) > 0.0


def test_kernels_that_moved_after_their_last_use_have_their_new_range(quantized_as_tao):
    model = copy.deepcopy(quantized_as_tao)
    before = read_ranges(model)["conv1.weight_quantizer"]
    with torch.no_grad():
        model.get_submodule("conv1").weight.mul_(2.0)
    assert torch.allclose(read_ranges(model)["conv1.weight_quantizer"], 2.0 * before)


def test_folded_defaults_round_what_they_always_did():
    """Names and their number, written down before there was any other placement."""
    kernels = ["conv1", "output_cov", "output_bbox"]
    outputs = ["conv1_relu"]
    for block in ("block_1a", "block_2a", "block_3a", "block_4a"):
        kernels += [f"{block}_conv_{name}" for name in ("1", "2", "shortcut")]
        outputs += [f"{block}_{name}" for name in ("relu_1", "relu", "conv_shortcut", "conv_2")]
    expected = {
        "conv1.input_quantizer",
        *(f"{name}.weight_quantizer" for name in kernels),
        *(f"{name}.output_quantizer" for name in outputs),
    }
    for config in (FOLDED, RetrainConfig()):
        ranges = read_ranges(quantize(tiny_model(), config))
        assert ranges.keys() == expected
        assert len(ranges) == 33
        assert {name: value.shape for name, value in ranges.items() if value.ndim != 1} == {}


@pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")
def test_a_killed_training_goes_on_with_the_ranges_it_had(tmp_path):
    config = FitConfig(
        epochs=3, batch_size=2, precision="32-true", accelerator="cpu", validate_every_epochs=0
    )
    samples = draw_samples(4)

    def kill_in_the_third(_metrics, epoch):
        if epoch == 3:
            raise KeyboardInterrupt

    def train(work_dir, log=None):
        model = quantize(tiny_model(), TAO)
        return fit(
            model, samples, None, config, postprocess=POSTPROCESS, work_dir=work_dir, log=log
        ).model

    whole = train(None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, kill_in_the_third)
    resumed = train(tmp_path)
    expected, found = whole.state_dict(), resumed.state_dict()
    assert expected["conv1.input_quantizer.moving_steps"] == 6
    assert all(torch.equal(found[name], value) for name, value in expected.items())
