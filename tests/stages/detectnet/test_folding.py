import copy

import torch

from stages.detectnet.folding import (
    absorb_biases_inplace,
    fold_batch_norm,
    is_folded,
    measure_batch_norm,
    norm_name,
    release_biases_inplace,
    trunk_convs,
)
from stages.detectnet.model import DetectNet
from stages.detectnet.rounding import round_model
from tests.stages.detectnet.tiny import known_ranges, tiny_images, tiny_model


def test_folded_network_computes_the_same():
    model = tiny_model(num_layers=18, all_projections=False)
    folded = fold_batch_norm(model)
    with torch.no_grad():
        expected, found = model(tiny_images()), folded(tiny_images())
    assert torch.allclose(found.coverage, expected.coverage, atol=1e-5)
    assert torch.allclose(found.bbox, expected.bbox, atol=1e-4)


def test_folding_leaves_its_argument_alone_and_is_idempotent():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    again = fold_batch_norm(folded)
    assert is_folded(folded)
    assert not is_folded(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    first, second = folded.state_dict(), again.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_measured_statistics_are_the_means_over_the_batches():
    model = tiny_model()
    batches = tiny_images(4).split(2)
    with torch.no_grad():
        inputs = [model.conv1(batch) for batch in batches]
    measure_batch_norm(model, batches)
    means = torch.stack([values.mean(dim=(0, 2, 3)) for values in inputs]).mean(dim=0)
    variances = torch.stack([values.var(dim=(0, 2, 3)) for values in inputs]).mean(dim=0)
    assert torch.allclose(model.bn_conv1.running_mean, means, atol=1e-5)
    assert torch.allclose(model.bn_conv1.running_var, variances, atol=1e-5)
    assert model.bn_conv1.momentum == 0.01
    assert not model.training


def learn(model: DetectNet) -> dict[str, torch.Tensor]:
    """Make one training pass; returns the outputs and the gradients there are, by name."""
    outputs = model.train()(tiny_images(4))
    (outputs.coverage.square().sum() + outputs.bbox.square().sum()).backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {name: values.detach() for name, values in {**outputs._asdict(), **gradients}.items()}


def trunk_biases(model: DetectNet) -> dict[str, torch.Tensor]:
    names = [f"{name}.bias" for name in trunk_convs(model)]
    return {name: model.get_parameter(name) for name in names}


def assert_close(found: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Sums over thousands of cells, in another order: 1e-4 of the largest value."""
    limit = 1e-4 * max(1.0, float(expected.abs().max()))
    assert (found - expected).abs().max() <= limit, name


def test_absorbed_biases_leave_outputs_and_learning_as_they_were():
    model = tiny_model(num_layers=18, all_projections=False)
    absorbed = copy.deepcopy(model)
    assert absorb_biases_inplace(absorbed)
    absorbed = copy.deepcopy(absorbed)
    with torch.no_grad():
        for found, expected in zip(absorbed(tiny_images()), model(tiny_images()), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)
    found, expected = learn(absorbed), learn(model)
    biases = trunk_biases(model)
    assert expected.keys() - found.keys() == biases.keys()
    for name, values in found.items():
        assert_close(values, expected[name], name)


def test_running_statistics_learn_the_same_with_absorbed_biases():
    model = tiny_model()
    absorbed = copy.deepcopy(model)
    absorb_biases_inplace(absorbed)
    learn(absorbed)
    learn(model)
    for name in trunk_convs(model):
        ours, theirs = (each.get_submodule(norm_name(name)) for each in (absorbed, model))
        bias = model.get_parameter(f"{name}.bias").detach()
        assert_close(ours.running_mean, theirs.running_mean - bias, name)
        assert_close(ours.running_var, theirs.running_var, name)


def test_absorbed_biases_are_zero_and_frozen_until_they_are_released():
    model = tiny_model()
    absorb_biases_inplace(model)
    biases = trunk_biases(model).values()
    assert all(float(bias.abs().max()) == 0.0 and not bias.requires_grad for bias in biases)
    assert model.get_parameter("output_cov.bias").requires_grad
    release_biases_inplace(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert trunk_biases(model).keys() <= learn(model).keys()


def test_biases_that_matter_are_not_absorbed():
    """Folded networks have their shift in them, and rounded convolutions are others than ours."""
    folded = fold_batch_norm(tiny_model())
    rounded = round_model(folded, known_ranges(folded, tiny_images()))
    for model in (folded, rounded):
        before = copy.deepcopy(model.state_dict())
        assert not absorb_biases_inplace(model)
        release_biases_inplace(model)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not model.has_absorbed_biases


def test_measuring_is_the_same_with_absorbed_biases():
    model = tiny_model()
    absorbed = copy.deepcopy(model)
    absorb_biases_inplace(absorbed)
    for each in (model, absorbed):
        measure_batch_norm(each, tiny_images(4).split(2))
    with torch.no_grad():
        for found, expected in zip(absorbed(tiny_images()), model(tiny_images()), strict=True):
            assert torch.allclose(found, expected, atol=1e-4)
