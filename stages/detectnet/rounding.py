"""The 8-bit detector for inference: rounds where the quantizers of training rounded.

Plain PyTorch, so that evaluation and export need no modelopt (its import takes seconds), and
exported by torch.onnx as QuantizeLinear / DequantizeLinear pairs. Ranges are keyed by the
quantizers' names in training: `<convolution>.weight_quantizer` (F,) for one range per output
channel or () for one per kernel, `<module>.output_quantizer` and `conv1.input_quantizer` (1,), the
largest absolute values; one step is range / 127.

Two placements. "fused" rounds the input, the activation functions and the projection shortcuts,
so that devices fuse convolution, addition and activation. "tao" is NVIDIA's: both inputs of each
residual addition and the addition itself as well (an identity shortcut is rounded already). Ranges
tell which one it was: only "tao" has any for additions.
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
    """A convolution with rounded kernels, per output channel or whole, and its input if asked.

    output_largest: range of a rounded output, (1,), or None.
    """

    def __init__(
        self, conv: nn.Conv2d, name: str, ranges: Ranges, output_largest: torch.Tensor | None
    ) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]  # always a pair here
            stride=conv.stride,  # type: ignore[arg-type]
            padding=conv.padding,  # type: ignore[arg-type]
        )
        self.load_state_dict(conv.state_dict())
        step = ranges[f"{name}.weight_quantizer"].float() / LEVELS
        # A number and not a tensor, so that the exporter writes one scale for the whole kernel.
        self.whole_step = None if step.ndim else step.item()
        self.register_buffer("step", step)
        self.register_buffer("zero", torch.zeros(step.numel(), dtype=torch.int32))
        self.before = _round_or_pass(ranges.get(f"{name}.input_quantizer"))
        self.after = _round_or_pass(output_largest)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        kernel = self._rounded_kernel()
        rounded: torch.Tensor = self.after(
            self._conv_forward(self.before(input), kernel, self.bias)
        )
        return rounded

    def _rounded_kernel(self) -> torch.Tensor:
        if self.whole_step is not None:
            return torch.fake_quantize_per_tensor_affine(
                self.weight, self.whole_step, 0, LOWEST, HIGHEST
            )
        step, zero = self.get_buffer("step"), self.get_buffer("zero")
        return torch.fake_quantize_per_channel_affine(self.weight, step, zero, 0, LOWEST, HIGHEST)


class RoundedActivation(nn.Module):
    """An activation function with a rounded output."""

    def __init__(self, activation: nn.Module, largest: torch.Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.round = Round(largest)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rounded: torch.Tensor = self.round(self.activation(features))
        return rounded


class RoundedAddition(nn.Module):
    """A residual addition with a rounded sum."""

    def __init__(self, addition: nn.Module, largest: torch.Tensor) -> None:
        super().__init__()
        self.addition = addition
        self.round = Round(largest)

    def forward(self, main: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        rounded: torch.Tensor = self.round(self.addition(main, shortcut))
        return rounded


def round_model(model: DetectNet, ranges: Ranges) -> DetectNet:
    """Return a copy of a folded float network that rounds weights and activations to 8 bits."""
    rounded = copy.deepcopy(model).eval()
    placement = placement_of(ranges)
    outputs = rounded_outputs(model, placement=placement)
    for name in [*trunk_convs(model), *HEADS]:
        conv = rounded.get_submodule(name)
        if f"{name}.weight_quantizer" in ranges:
            assert isinstance(conv, nn.Conv2d)
            largest = ranges[f"{name}.output_quantizer"] if name in outputs else None
            rounded.add_module(name, RoundedConv2d(conv, name, ranges, largest))
    for name in activation_names(model):
        largest = ranges[f"{name}.output_quantizer"]
        rounded.add_module(name, RoundedActivation(rounded.get_submodule(name), largest))
    for name in addition_names(model) if placement == "tao" else []:
        largest = ranges[f"{name}.output_quantizer"]
        rounded.add_module(name, RoundedAddition(rounded.get_submodule(name), largest))
    return rounded


def check_ranges(model: DetectNet, ranges: Ranges) -> None:
    """Raise ValueError unless the ranges are those of the network: complete, in shape, above 0."""
    wanted = quantizer_names(model, quantize_heads=False, placement=placement_of(ranges))
    missing = [name for name in wanted if name not in ranges]
    if missing:
        raise ValueError(f"{len(missing)} ranges are missing, the first is {missing[0]}")
    for name, largest in ranges.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        is_kernel = isinstance(layer, nn.Conv2d) and name.endswith(".weight_quantizer")
        shapes = [(layer.out_channels,), ()] if is_kernel else [(1,)]
        if tuple(largest.shape) not in shapes:
            raise ValueError(f"{name} has the shape {tuple(largest.shape)}, expected {shapes[0]}")
        if not bool(((largest > 0) & largest.isfinite()).all()):
            raise ValueError(f"{name} has a range that is not above 0")


def quantizer_names(
    model: DetectNet, *, quantize_heads: bool, placement: str = "fused"
) -> list[str]:
    """List what is rounded: kernels, the input, and the outputs of the placement's modules."""
    kernels = trunk_convs(model) + (list(HEADS) if quantize_heads else [])
    return [
        *(f"{name}.weight_quantizer" for name in kernels),
        INPUT_QUANTIZER,
        *(f"{name}.output_quantizer" for name in rounded_outputs(model, placement=placement)),
    ]


def rounded_outputs(model: DetectNet, *, placement: str) -> list[str]:
    """List the modules whose outputs are rounded, "fused" or "tao" (see the module's text)."""
    shortcuts = [name for name in trunk_convs(model) if is_shortcut(name)]
    fused = activation_names(model) + shortcuts
    if placement == "fused":
        return fused
    return fused + main_branches(model) + addition_names(model)


def observer_names(model: DetectNet, *, placement: str = "fused") -> list[str]:
    """List what is measured but not rounded: the other input of each residual addition.

    The calibration cache needs these ranges, because implicit INT8 wants one for every tensor.
    None under "tao", which rounds these.
    """
    if placement == "tao":
        return []
    return [f"{name}.output_quantizer" for name in main_branches(model)]


def placement_of(ranges: Ranges) -> str:
    """Tell where a network with these ranges rounds: "fused" or "tao"."""
    is_tao = any(name.endswith("_add.output_quantizer") for name in ranges)
    return "tao" if is_tao else "fused"


def activation_names(model: DetectNet) -> list[str]:
    """List the activation functions from input to output."""
    return [name for name, layer in model.named_modules() if isinstance(layer, nn.ReLU | nn.ReLU6)]


def addition_names(model: DetectNet) -> list[str]:
    """List the residual additions from input to output."""
    return [f"{block.name}_add" for block in model.blocks]


def main_branches(model: DetectNet) -> list[str]:
    """List the convolutions whose outputs meet the shortcuts."""
    return [f"{block.name}_conv_2" for block in model.blocks]


def is_shortcut(name: str) -> bool:
    """Tell whether a layer is the projection in a shortcut."""
    return name.endswith("_conv_shortcut")


def _round_or_pass(largest: torch.Tensor | None) -> nn.Module:
    return nn.Identity() if largest is None else Round(largest)
