"""A full network into which a pruned one was put finds what that finds."""

import pytest
import torch
from torch import nn

from benchmarks.widened import WIDTH, Weights, widen
from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.model import DetectNet, build_architecture
from tests.stages.detectnet.tiny import INPUT_WH, tiny_images, tiny_model


def pruned_weights(network: DetectNet) -> Weights:
    """The weights as an exported file has them: batch normalisation folded."""
    state = fold_batch_norm(network).state_dict()
    return {key: value for key, value in state.items() if key.endswith((".weight", ".bias"))}


@pytest.mark.parametrize("num_layers", [18, 34])
def test_the_full_network_finds_what_the_pruned_one_finds(num_layers: int) -> None:
    small = tiny_model(num_layers=18, width=4)
    full = widen(pruned_weights(small), num_layers, input_wh=INPUT_WH)
    assert full.architecture == build_architecture(num_layers, width=WIDTH, input_wh=INPUT_WH)
    images = tiny_images()
    with torch.no_grad():
        wanted, found = small(images), full(images)
    assert wanted.coverage.std() > 0.01
    torch.testing.assert_close(found.coverage, wanted.coverage, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(found.bbox, wanted.bbox, rtol=1e-4, atol=1e-4)


def test_each_filter_has_a_range() -> None:
    full = widen(pruned_weights(tiny_model(num_layers=18, width=4)), 34, input_wh=INPUT_WH)
    convs = [layer for layer in full.modules() if isinstance(layer, nn.Conv2d)]
    assert all(layer.weight.flatten(1).abs().amax(1).min() > 0.0 for layer in convs)


def test_a_layer_that_the_full_network_lacks_is_named() -> None:
    weights = pruned_weights(tiny_model(num_layers=18, width=4))
    weights["block_9a_conv_1.weight"] = weights["conv1.weight"]
    with pytest.raises(KeyError, match="block_9a_conv_1"):
        widen(weights, 18, input_wh=INPUT_WH)
