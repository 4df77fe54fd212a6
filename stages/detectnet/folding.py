"""Fold batch normalisation into the convolution in front of it."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.detectnet.model import DetectNet, conv_names


def fold_batch_norm(model: DetectNet) -> DetectNet:
    """Return a copy whose convolutions contain the batch normalisation behind them.

    The copy computes what `model` computes in eval mode; a folded model is just copied.
    """
    folded = copy.deepcopy(model).eval()
    if is_folded(model):
        return folded
    for name in trunk_convs(model):
        conv, norm = folded.get_submodule(name), folded.get_submodule(norm_name(name))
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.add_module(name, fuse_conv_bn_eval(conv, norm))
    return drop_batch_norm(folded)


def drop_batch_norm(model: DetectNet) -> DetectNet:
    """Replace every batch normalisation by the identity, in place; returns the model."""
    for name in trunk_convs(model):
        model.add_module(norm_name(name), nn.Identity())
    return model


def is_folded(model: nn.Module) -> bool:
    """Tell whether the batch normalisation has been folded away."""
    return isinstance(model.get_submodule("bn_conv1"), nn.Identity)


def trunk_convs(model: DetectNet) -> list[str]:
    """List the convolutions of a network from input to output, heads excluded."""
    architecture = model.architecture
    return conv_names(architecture.num_layers, all_projections=architecture.all_projections)


def norm_name(conv_name: str) -> str:
    """Name the batch normalisation behind a convolution of the trunk."""
    return "bn_conv1" if conv_name == "conv1" else conv_name.replace("_conv_", "_bn_")
