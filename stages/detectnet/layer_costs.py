"""What a detector and each of its convolutions cost: parameters, multiply-accumulates."""

from typing import NamedTuple

import torch
from torch import nn

from stages.detectnet.folding import drop_batch_norm
from stages.detectnet.model import Architecture, DetectNet, count_parameters


class LayerChange(NamedTuple):
    """One convolution before and after: output channels, parameters (bias too), MACs per image."""

    name: str
    channels_before: int
    channels_after: int
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int


def compare_layers(before: Architecture, after: Architecture) -> list[LayerChange]:
    """Tabulate both networks' convolutions, heads included, from input to output."""
    costs_before, costs_after = count_costs(before), count_costs(after)
    rows = []
    for name, (channels, params, macs) in costs_before.items():
        channels_after, params_after, macs_after = costs_after[name]
        rows.append(
            LayerChange(name, channels, channels_after, params, params_after, macs, macs_after)
        )
    return rows


def count_costs(architecture: Architecture) -> dict[str, tuple[int, int, int]]:
    """Return (output channels, parameters, multiply-accumulates per image) by convolution."""
    costs: dict[str, tuple[int, int, int]] = {}
    with torch.device("meta"):
        # Batch normalisation is not counted, and on meta it is slower than all the rest.
        model = drop_batch_norm(DetectNet(architecture))
        width, height = architecture.input_wh
        images = torch.empty(1, 3, height, width)

    def measure(name: str, conv: nn.Conv2d, output: torch.Tensor) -> None:
        params = sum(parameter.numel() for parameter in conv.parameters())
        macs = conv.weight.numel() * output.shape[-2] * output.shape[-1]
        costs[name] = (conv.out_channels, params, macs)

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(
                lambda conv, _inputs, output, name=name: measure(name, conv, output)
            )
    with torch.no_grad():
        model(images)
    return costs


def count_params(architecture: Architecture) -> int:
    """Count the parameters, batch normalisation's included."""
    with torch.device("meta"):
        return count_parameters(DetectNet(architecture))


def count_macs(architecture: Architecture) -> int:
    """Count the multiply-accumulates of all convolutions for one picture."""
    return sum(macs for _, _, macs in count_costs(architecture).values())
