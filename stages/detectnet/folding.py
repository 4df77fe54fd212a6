"""Batch normalisation: measure its statistics anew, and fold it into the convolution in front."""

import copy
from collections.abc import Iterable

import torch
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


@torch.no_grad()
def measure_batch_norm(model: DetectNet, batches: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics by the mean over batches of images, in place.

    Running averages with momentum 0.01 remember hundreds of steps, so after pruning and a short
    training they still describe the network before. A folded model stays as it is.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for an equally weighted mean
    was_training = model.training
    model.train()
    for images in batches:
        model(images)
    model.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


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
