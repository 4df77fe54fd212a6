"""A pruned detector put back into a network of full width that finds the same hands.

For timing full networks where no trained one is at hand: random weights find "hands" that come and
go, which costs a loop more than the network does. Filters that pruning took away are filled with
weaker copies of those that are left, and nothing reads them; blocks that the pruned network lacks
hand their input on.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from deploy.core.model_json import read_model_json
from stages.detectnet.folding import norm_name, trunk_convs
from stages.detectnet.model import DetectNet, build_architecture

WIDTH = 64
# Of the copies: weak, so that the ranges of 8 bits stay those of the filters that count.
COPY_GAIN = 0.5
# Of a branch that is to add nothing: no kernel may be all zero, for 8 bits want a range.
NOTHING = 1e-6

Weights = dict[str, torch.Tensor]


def read_weights(folder: Path) -> Weights:
    """Return the weights of an exported detector by the names of the network's layers."""
    model = onnx.load(str(folder / read_model_json(folder).files["fp32"]))
    return {
        tensor.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
        for tensor in model.graph.initializer
        if tensor.name.endswith((".weight", ".bias"))
    }


def widen(weights: Weights, num_layers: int, *, input_wh: list[int]) -> DetectNet:
    """Return a ResNet of num_layers and full width with these weights of folded convolutions.

    Raises KeyError when the weights have a layer that the full network lacks.
    """
    network = DetectNet(build_architecture(num_layers, width=WIDTH, input_wh=input_wh)).eval()
    names = [*trunk_convs(network), "output_cov", "output_bbox"]
    for name in {key.rsplit(".", 1)[0] for key in weights} - set(names):
        raise KeyError(name)
    with torch.no_grad():
        for name in names:
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            if f"{name}.weight" in weights:
                fill(layer, weights[f"{name}.weight"], weights[f"{name}.bias"])
            else:
                pass_on(layer, is_shortcut=name.endswith("shortcut"))
            if name in trunk_convs(network):
                _undo_norm(network.get_submodule(norm_name(name)))
    return network


def fill(layer: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Put a kernel (O, I, k, k) and bias (O,) into a layer of at least that many channels."""
    assert layer.bias is not None
    rows = torch.arange(layer.out_channels)
    gains = torch.where(rows < len(weight), 1.0, COPY_GAIN)
    layer.weight.zero_()
    layer.weight[:, : weight.shape[1]] = weight[rows % len(weight)] * gains[:, None, None, None]
    layer.bias.copy_(bias[rows % len(bias)] * gains)


def pass_on(layer: nn.Conv2d, *, is_shortcut: bool) -> None:
    """Make a layer of a block that is to change nothing: each channel is copied, or nothing of
    it is."""
    assert layer.bias is not None
    nn.init.dirac_(layer.weight)
    layer.bias.zero_()
    if not is_shortcut:
        layer.weight.mul_(NOTHING)


def _undo_norm(norm: nn.Module) -> None:
    """Let batch normalisation change nothing: it is in the weights already."""
    assert isinstance(norm, nn.BatchNorm2d)
    norm.reset_running_stats()
    nn.init.constant_(norm.weight, (1.0 + norm.eps) ** 0.5)
    nn.init.zeros_(norm.bias)
