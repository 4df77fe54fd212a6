"""The 8-bit detector for inference: rounds where the quantizers of training rounded.

Plain PyTorch, so that evaluation and export need no modelopt (its import takes seconds), and
exported by torch.onnx as QuantizeLinear / DequantizeLinear pairs. Ranges are keyed by the
quantizers' names in training: `<convolution>.weight_quantizer` (F,), `<module>.output_quantizer`
and `conv1.input_quantizer` (1,), the largest absolute values; one step is range / 127.
"""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from stages.detectnet.folding import trunk_convs
from stages.detectnet.model import DetectNet

HEADS = ("output_cov", "output_bbox")
INPUT_QUANTIZER = "conv1.input_quantizer"
LEVELS = 127
LOWEST, HIGHEST = -128, 127

Ranges = Mapping[str, torch.Tensor]


class Round(nn.Module):
    """Round to the nearest of 256 signed steps, ties to even, and clip to -128..127 steps."""

    def __init__(self, largest: torch.Tensor) -> None:
        super().__init__()
        self.step = float(largest) / LEVELS

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(features, self.step, 0, LOWEST, HIGHEST)


class RoundedConv2d(nn.Conv2d):
    """A convolution with kernels rounded per output channel, and its input and output if asked."""

    def __init__(self, conv: nn.Conv2d, name: str, ranges: Ranges) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]  # always a pair here
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
        )
        self.load_state_dict(conv.state_dict())
        step = ranges[f"{name}.weight_quantizer"].float() / LEVELS
        self.register_buffer("step", step)
        self.register_buffer("zero", torch.zeros(step.numel(), dtype=torch.int32))
        shortcut = ranges.get(f"{name}.output_quantizer") if is_shortcut(name) else None
        self.before = _round_or_pass(ranges.get(f"{name}.input_quantizer"))
        self.after = _round_or_pass(shortcut)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        step, zero = self.get_buffer("step"), self.get_buffer("zero")
        kernel = torch.fake_quantize_per_channel_affine(
            self.weight, step, zero, 0, LOWEST, HIGHEST
        )
        rounded: torch.Tensor = self.after(
            self._conv_forward(self.before(input), kernel, self.bias)
        )
        return rounded


class RoundedActivation(nn.Module):
    """An activation function with a rounded output."""

    def __init__(self, activation: nn.Module, largest: torch.Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.round = Round(largest)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rounded: torch.Tensor = self.round(self.activation(features))
        return rounded


def round_model(model: DetectNet, ranges: Ranges) -> DetectNet:
    """Return a copy of a folded float network that rounds weights and activations to 8 bits."""
    rounded = copy.deepcopy(model).eval()
    for name in [*trunk_convs(model), *HEADS]:
        conv = rounded.get_submodule(name)
        if f"{name}.weight_quantizer" in ranges:
            assert isinstance(conv, nn.Conv2d)
            rounded.add_module(name, RoundedConv2d(conv, name, ranges))
    for name in activation_names(model):
        largest = ranges[f"{name}.output_quantizer"]
        rounded.add_module(name, RoundedActivation(rounded.get_submodule(name), largest))
    return rounded


def check_ranges(model: DetectNet, ranges: Ranges) -> None:
    """Raise ValueError unless the ranges are those of the network: complete, in shape, above 0."""
    missing = [name for name in quantizer_names(model, quantize_heads=False) if name not in ranges]
    if missing:
        raise ValueError(f"{len(missing)} ranges are missing, the first is {missing[0]}")
    for name, largest in ranges.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        is_kernel = isinstance(layer, nn.Conv2d) and name.endswith(".weight_quantizer")
        wanted = (layer.out_channels,) if is_kernel else (1,)
        if tuple(largest.shape) != wanted:
            raise ValueError(f"{name} has the shape {tuple(largest.shape)}, expected {wanted}")
        if not bool(((largest > 0) & largest.isfinite()).all()):
            raise ValueError(f"{name} has a range that is not above 0")


def quantizer_names(model: DetectNet, *, quantize_heads: bool) -> list[str]:
    """List what is rounded: kernels, the input, activations and projection shortcuts."""
    kernels = trunk_convs(model) + (list(HEADS) if quantize_heads else [])
    rounded = activation_names(model) + [name for name in trunk_convs(model) if is_shortcut(name)]
    return [
        *(f"{name}.weight_quantizer" for name in kernels),
        INPUT_QUANTIZER,
        *(f"{name}.output_quantizer" for name in rounded),
    ]


def observer_names(model: DetectNet) -> list[str]:
    """List what is measured but not rounded: the other input of each residual addition.

    The calibration cache needs these ranges, because implicit INT8 wants one for every tensor.
    """
    return [f"{name}.output_quantizer" for name in trunk_convs(model) if name.endswith("_conv_2")]


def activation_names(model: DetectNet) -> list[str]:
    """List the activation functions from input to output."""
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.ReLU | nn.ReLU6)]


def is_shortcut(name: str) -> bool:
    """Tell whether a layer is the projection in a shortcut."""
    return name.endswith("_conv_shortcut")


def _round_or_pass(largest: torch.Tensor | None) -> nn.Module:
    return nn.Identity() if largest is None else Round(largest)
