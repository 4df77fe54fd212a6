"""The open gesture classifier: a small residual network with GestureNet's tensors.

`input_1` (N, 3, 160, 160) RGB in [0, 1] -> `activation_18` (N, 6), softmax. A stem of stride 4 and
three stages of residual blocks (He et al. 2015, arXiv 1512.03385, basic block), each of stride 2,
leave 5 x 5 cells. By default it has about a 45th of the multiply-accumulates of GestureNet's
ResNet18, since it runs once per hand and frame on a CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEM_KERNEL = 6
STEM_STRIDE = 4


@dataclass(frozen=True)
class Architecture:
    """What rebuilds the network.

    width: channels after the stem; the stages have 2, 4, 8 times more. blocks: of each stage.
    """

    width: int = 16
    num_classes: int = 6
    blocks: tuple[int, ...] = (1, 1, 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the first one of the stride, and a 1x1 shortcut of the stride.

    A block of stride 1 has a shortcut too, so that its addition is quantized as any other.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 2) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn_1 = nn.BatchNorm2d(out_channels)
        self.relu_1 = nn.ReLU()
        self.conv_2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn_2 = nn.BatchNorm2d(out_channels)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        self.bn_shortcut = nn.BatchNorm2d(out_channels)
        self.relu_2 = nn.ReLU()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        main = self.relu_1(self.bn_1(self.conv_1(features)))
        main = self.bn_2(self.conv_2(main))
        return cast(
            torch.Tensor, self.relu_2(main + self.bn_shortcut(self.conv_shortcut(features)))
        )


class GestureClassifier(nn.Module):
    """images (B, 3, H, W) float RGB in [0, 1] -> calibrated probabilities (B, num_classes).

    H and W are multiples of 32; the exported network has 160. `logits` is what training sees. The
    buffer `temperature` divides the logits before the softmax (Guo et al. 2017, arXiv 1706.04599).
    """

    temperature: torch.Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.width
        # Padding 1 with kernel 6 and stride 4 gives exactly H / 4, so that no border pixel is
        # dropped.
        self.conv_stem = nn.Conv2d(
            3, width, STEM_KERNEL, stride=STEM_STRIDE, padding=1, bias=False
        )
        self.bn_stem = nn.BatchNorm2d(width)
        self.relu_stem = nn.ReLU()
        self.block_1 = _build_stage(width, architecture.blocks[0])
        self.block_2 = _build_stage(2 * width, architecture.blocks[1])
        self.block_3 = _build_stage(4 * width, architecture.blocks[2])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8 * width, architecture.num_classes)
        self.register_buffer("temperature", torch.ones(()))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return uncalibrated scores (B, num_classes)."""
        return self.classify(self.features(images)[1])

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the last two stages make of pictures: (B, 4 * width, H/16, W/16) and
        (B, 8 * width, H/32, W/32)."""
        stem = self.relu_stem(self.bn_stem(self.conv_stem(images)))  # (B, width, H/4, W/4)
        fine = self.block_2(self.block_1(stem))
        return fine, self.block_3(fine)

    def classify(self, coarse: torch.Tensor) -> torch.Tensor:
        """Return uncalibrated scores (B, num_classes) of the last stage's features."""
        return cast(torch.Tensor, self.classifier(self.pool(coarse).flatten(1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.logits(images) / self.temperature, dim=1)


def _build_stage(in_channels: int, num_blocks: int) -> nn.Module:
    """Return a block of stride 2 that doubles the channels, and further ones of stride 1.

    One block stands alone, so that weights have the names they had before there were more.
    """
    out_channels = 2 * in_channels
    first = ResidualBlock(in_channels, out_channels)
    rest = [ResidualBlock(out_channels, out_channels, stride=1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest) if rest else first


def count_parameters(model: nn.Module) -> int:
    """Count the trainable weights."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_wh: tuple[int, int]) -> int:
    """Count the multiply-accumulates of convolutions and linear layers for one picture."""
    total = 0

    def add(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = cast(torch.Tensor, module.weight)
        total += weight[0].numel() * output[0].numel()

    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [layer.register_forward_hook(add) for layer in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, input_wh[1], input_wh[0]))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return total


def fold_batch_norm(model: GestureClassifier) -> GestureClassifier:
    """Return an inference copy with every batch normalisation folded into its convolution.

    The outputs are equal up to float32 rounding. INT8 ranges are then those of the weights that
    really run.
    """
    folded = GestureClassifier(model.architecture)
    folded.load_state_dict(model.state_dict())
    folded.eval()
    for owner, conv_name, bn_name in list(_normalised_convs(folded)):
        conv, norm = getattr(owner, conv_name), getattr(owner, bn_name)
        setattr(owner, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(owner, bn_name, nn.Identity())
    return folded


def _normalised_convs(model: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield (owner, conv name, norm name) for each pair named conv_X, bn_X."""
    for owner in model.modules():
        for name, _child in owner.named_children():
            if name.startswith("conv_"):
                yield owner, name, name.replace("conv_", "bn_", 1)
