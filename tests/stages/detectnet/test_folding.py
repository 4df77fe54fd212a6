import copy

import torch

from stages.detectnet.folding import fold_batch_norm, is_folded, measure_batch_norm
from tests.stages.detectnet.tiny import tiny_images, tiny_model


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
