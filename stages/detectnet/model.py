"""The DetectNet_v2 network in PyTorch: a ResNet of stride 16 with a coverage and a box head.

Layer for layer NVIDIA's TAO 5 templates (nvidia_tao_tf1 core/templates/resnet.py and
cv/detectnet_v2/objectives): no pooling, stage strides 2, 2, 2, 1, biases in every convolution,
symmetric padding k // 2, Keras' batch normalisation constants, and NVIDIA's layer names as flat
attributes. The one addition is resnet10, one block per stage. Residual additions and activations
are modules, so that quantizers can be attached to them.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn

BLOCKS_PER_STAGE = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
STAGE_STRIDES = (2, 2, 2, 1)
STRIDE = 16
ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class Outputs(NamedTuple):
    """What DetectNet returns: coverage (B, C, h, w) in (0, 1), bbox (B, 4C, h, w), h = H / 16."""

    coverage: torch.Tensor
    bbox: torch.Tensor


class Block(NamedTuple):
    """One residual block: name ("block_1a"), stride of its first convolution, shortcut."""

    name: str
    stride: int
    has_projection: bool


@dataclass(frozen=True)
class Architecture:
    """Everything that rebuilds a network, pruned ones too.

    channels: trunk convolution name -> output channels. activation: "relu" or "relu6".
    Raises ValueError for an unknown depth or activation, for channels that do not fit together and
    for sides of input_wh that are not multiples of 16.
    """

    num_layers: int
    channels: dict[str, int]
    num_classes: int
    input_wh: list[int]
    all_projections: bool
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.num_layers not in BLOCKS_PER_STAGE:
            raise ValueError(f"num_layers is {self.num_layers}; known: {sorted(BLOCKS_PER_STAGE)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation is {self.activation!r}; known: {sorted(ACTIVATIONS)}")
        if len(self.input_wh) != 2 or any(side <= 0 or side % STRIDE for side in self.input_wh):
            raise ValueError(f"input_wh is {self.input_wh}; expected two multiples of {STRIDE}")
        wanted = set(conv_names(self.num_layers, all_projections=self.all_projections))
        if wanted != set(self.channels):
            wrong = sorted(wanted ^ set(self.channels))
            raise ValueError(f"channels lack or add the layers {wrong}")
        _check_residual_channels(self)


def iterate_blocks(num_layers: int, *, all_projections: bool) -> Iterator[Block]:
    """Yield the residual blocks from input to output."""
    for stage, num_blocks in enumerate(BLOCKS_PER_STAGE[num_layers]):
        for index in range(num_blocks):
            name = f"block_{stage + 1}{chr(ord('a') + index)}"
            stride = STAGE_STRIDES[stage] if index == 0 else 1
            yield Block(name, stride, all_projections or index == 0)


def conv_names(num_layers: int, *, all_projections: bool) -> list[str]:
    """List the trunk's convolutions from input to output (heads excluded)."""
    names = ["conv1"]
    for block in iterate_blocks(num_layers, all_projections=all_projections):
        names += [f"{block.name}_conv_1", f"{block.name}_conv_2"]
        names += [f"{block.name}_conv_shortcut"] if block.has_projection else []
    return names


def build_architecture(
    num_layers: int,
    *,
    width: int,
    num_classes: int = 1,
    input_wh: list[int],
    all_projections: bool = True,
) -> Architecture:
    """Describe an unpruned network: `width` channels in stage 1, then 2, 4 and 8 times that."""
    if num_layers not in BLOCKS_PER_STAGE:
        raise ValueError(f"num_layers is {num_layers}; known: {sorted(BLOCKS_PER_STAGE)}")
    channels = {"conv1": width}
    for name in conv_names(num_layers, all_projections=all_projections)[1:]:
        stage = int(name[len("block_")]) - 1
        channels[name] = width * 2**stage
    return Architecture(
        num_layers=num_layers,
        channels=channels,
        num_classes=num_classes,
        input_wh=list(input_wh),
        all_projections=all_projections,
    )


class ResidualAdd(nn.Module):
    """Add the main branch and the shortcut; a module so that its inputs can be quantized."""

    def forward(self, main: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return main + shortcut


class DetectNet(nn.Module):
    """The detector; submodules carry NVIDIA's layer names (block_1a_conv_1, output_cov, ...).

    has_absorbed_biases: the trunk's biases are 0 and stay 0 (folding.absorb_biases_inplace).
    """

    has_absorbed_biases = False

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.blocks = tuple(
            iterate_blocks(architecture.num_layers, all_projections=architecture.all_projections)
        )
        self._add_conv("conv1", "bn_conv1", 3, kernel=7, stride=2)
        self.add_module("conv1_relu", self._activation())
        in_channels = architecture.channels["conv1"]
        for block in self.blocks:
            in_channels = self._add_block(block, in_channels)
        self.add_module("output_cov", nn.Conv2d(in_channels, architecture.num_classes, 1))
        self.add_module("output_bbox", nn.Conv2d(in_channels, 4 * architecture.num_classes, 1))
        initialize_weights(self)

    def forward(self, images: torch.Tensor) -> Outputs:
        """Detect in images (B, 3, H, W), RGB in [0, 1]; H and W must be multiples of 16.

        bbox is class-major with left, top, right, bottom inside, in units of the grid's scale.
        Under autocast both outputs are still float32, so that the losses are.
        """
        features = self._forward_unit("conv1", "bn_conv1", images)
        features = self.get_submodule("conv1_relu")(features)
        for block in self.blocks:
            features = self._forward_block(block, features)
        coverage = _to_float32(self.get_submodule("output_cov")(features))
        bbox = _to_float32(self.get_submodule("output_bbox")(features))
        return Outputs(torch.sigmoid(coverage), bbox)

    def _forward_block(self, block: Block, features: torch.Tensor) -> torch.Tensor:
        name = block.name
        main = self._forward_unit(f"{name}_conv_1", f"{name}_bn_1", features)
        main = self.get_submodule(f"{name}_relu_1")(main)
        main = self._forward_unit(f"{name}_conv_2", f"{name}_bn_2", main)
        shortcut = features
        if block.has_projection:
            shortcut = self._forward_unit(f"{name}_conv_shortcut", f"{name}_bn_shortcut", features)
        total = self.get_submodule(f"{name}_add")(main, shortcut)
        return self.get_submodule(f"{name}_relu")(total)

    def _forward_unit(self, conv: str, norm: str, features: torch.Tensor) -> torch.Tensor:
        layer = self.get_submodule(conv)
        if self.training and self.has_absorbed_biases:
            assert isinstance(layer, nn.Conv2d)
            # Two kernels less: the sum with the bias, and the sum that is the bias' gradient.
            return self.get_submodule(norm)(layer._conv_forward(features, layer.weight, None))
        return self.get_submodule(norm)(layer(features))

    def _add_block(self, block: Block, in_channels: int) -> int:
        """Add one block's layers; returns its output channels."""
        name, channels = block.name, self.architecture.channels
        hidden, out_channels = channels[f"{name}_conv_1"], channels[f"{name}_conv_2"]
        self._add_conv(
            f"{name}_conv_1", f"{name}_bn_1", in_channels, kernel=3, stride=block.stride
        )
        self.add_module(f"{name}_relu_1", self._activation())
        self._add_conv(f"{name}_conv_2", f"{name}_bn_2", hidden, kernel=3, stride=1)
        if block.has_projection:
            conv, norm = f"{name}_conv_shortcut", f"{name}_bn_shortcut"
            self._add_conv(conv, norm, in_channels, kernel=1, stride=block.stride)
        self.add_module(f"{name}_add", ResidualAdd())
        self.add_module(f"{name}_relu", self._activation())
        return out_channels

    def _add_conv(
        self, conv: str, norm: str, in_channels: int, *, kernel: int, stride: int
    ) -> None:
        out_channels = self.architecture.channels[conv]
        layer = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)
        self.add_module(conv, layer)
        # Keras: running = 0.99 * running + 0.01 * batch, which PyTorch writes as momentum 0.01.
        self.add_module(norm, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01))

    def _activation(self) -> nn.Module:
        # Not in place: quantizers and the pruner's tracer must see the tensor before and after.
        return ACTIVATIONS[self.architecture.activation]()


def build_network(architecture: Architecture, *, seed: int) -> DetectNet:
    """Make an untrained network of any shape; equal seeds give equal weights.

    It seeds PyTorch's generator and leaves it advanced.
    """
    torch.manual_seed(seed)
    return DetectNet(architecture)


def replace_activation(model: DetectNet, activation: str) -> DetectNet:
    """Return a copy of an unquantized network with another activation function, "relu" or "relu6".

    Raises ValueError for any other name.
    """
    changed = copy.deepcopy(model)
    changed.architecture = replace(model.architecture, activation=activation)
    old = tuple(ACTIVATIONS.values())
    for name in [name for name, layer in model.named_modules() if isinstance(layer, old)]:
        changed.add_module(name, ACTIVATIONS[activation]())
    return changed


def initialize_weights(model: nn.Module) -> None:
    """Set every convolution to glorot-uniform kernels and zero biases, Keras' defaults."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers, biases and batch normalisation's affine terms included."""
    return sum(parameter.numel() for parameter in model.parameters())


def _to_float32(tensor: torch.Tensor) -> torch.Tensor:
    # The condition keeps a cast out of exported graphs, whose tensors are float32 already.
    return tensor if tensor.dtype == torch.float32 else tensor.float()


def _check_residual_channels(architecture: Architecture) -> None:
    in_channels = architecture.channels["conv1"]
    for block in iterate_blocks(
        architecture.num_layers, all_projections=architecture.all_projections
    ):
        out_channels = architecture.channels[f"{block.name}_conv_2"]
        shortcut_name = f"{block.name}_conv_shortcut" if block.has_projection else None
        shortcut = architecture.channels[shortcut_name] if shortcut_name else in_channels
        if shortcut != out_channels:
            raise ValueError(
                f"{block.name} adds {out_channels} channels to a shortcut of {shortcut}; "
                "they must be equal"
            )
        in_channels = out_channels
