"""Batch normalisation: measure its statistics anew, and fold it into the convolution in front.

The other way round, while a network trains: a bias in front of batch normalisation changes nothing
but the running mean, so it can be absorbed there, and adding it and its gradient are saved.
"""

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


@torch.no_grad()
def absorb_biases_inplace(model: DetectNet) -> bool:
    """Move the biases in front of batch normalisation into its running means, and freeze them.

    The network computes the same in both modes; a training forward then leaves those biases, which
    are 0, out. Returns False and changes nothing where a bias may matter or a convolution is not
    PyTorch's own: in folded and quantized networks.
    """
    names = trunk_convs(model)
    if is_folded(model) or any(type(model.get_submodule(name)) is not nn.Conv2d for name in names):
        return False
    for name in names:
        bias = model.get_submodule(name).get_parameter("bias")
        model.get_submodule(norm_name(name)).get_buffer("running_mean").sub_(bias)
        nn.init.zeros_(bias)
        bias.requires_grad_(False)
    model.has_absorbed_biases = True
    return True


def release_biases_inplace(model: DetectNet) -> None:
    """Let absorbed biases, still 0, be parameters like others again."""
    if not model.has_absorbed_biases:
        return
    for name in trunk_convs(model):
        model.get_submodule(name).get_parameter("bias").requires_grad_(True)
    model.has_absorbed_biases = False


def set_training_inplace(network: nn.Module, *, freeze_batch_norm: bool) -> None:
    """Put a network into training mode; frozen batch normalisation keeps its statistics."""
    network.train()
    if freeze_batch_norm:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


def freeze_batch_norm_inplace(model: nn.Module) -> None:
    """Keep scale and shift of batch normalisation out of the optimiser."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.requires_grad_(False)


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
