"""Start from the weights of another run: `model.pretrained`.

Layers are told by their names, which are NVIDIA's in every network, so that a deeper network, or
one with other heads, still takes what fits.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from deploy.core.errors import UserError
from stages.detectnet.checkpoint import FILE_NAME, load_checkpoint
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import is_folded
from stages.detectnet.keras_weights import SUFFIXES, Layers, read_keras_layers
from stages.detectnet.model import Architecture, DetectNet

LOGGER = logging.getLogger(__name__)
NAMED_LAYERS = 6


class Taken(NamedTuple):
    """Layers that were taken, and for those that were not "shape" or "missing" (in the file)."""

    names: tuple[str, ...]
    left_out: Mapping[str, str]


def take_weights(model: DetectNet, path: Path) -> Taken:
    """Copy into a float network, in place, each of its layers that the file has in that shape.

    path: a model folder or its model.pt, or a Keras file (.hdf5). A layer is a convolution or a
    batch normalisation; it is taken whole, with its running statistics, or stays as it is. The log
    says what was taken.
    Raises DetectNetError when path is not there, is damaged or foreign, holds a folded or an 8-bit
    network, or has no layer that fits; the network is then unchanged.
    """
    found, described = _read_layers(path)
    wanted = _layers(model)
    left_out = {}
    for name, layer in wanted.items():
        if name not in found:
            left_out[name] = "missing"
        elif _shapes(found[name]) != _shapes(layer):
            left_out[name] = "shape"
    names = tuple(name for name in wanted if name not in left_out)
    if not names:
        raise DetectNetError(
            f"model.pretrained: no layer of {path} ({described}) fits the "
            f"network ({_describe(model.architecture)}); expected layers of equal shape; set "
            "model.width to that of the file, or model.pretrained to null"
        )
    for name in names:
        model.get_submodule(name).load_state_dict(found[name])
    taken = Taken(names, left_out)
    LOGGER.info("model.pretrained: %s", _summarize(taken, path))
    return taken


def _read_layers(path: Path) -> tuple[Layers, str]:
    """Return the layers of a file by name, and what it is in a few words."""
    if path.suffix in SUFFIXES and path.is_file():
        layers = read_keras_layers(path)
        return layers, f"a Keras network of {len(layers)} layers"
    source = _load_source(path)
    return _layers(source), _describe(source.architecture)


def _load_source(path: Path) -> DetectNet:
    folder = path if path.is_dir() else path.parent
    if not (folder / FILE_NAME).is_file() or path not in (folder, folder / FILE_NAME):
        raise DetectNetError(
            f"model.pretrained is {path}; there is no such model folder or {FILE_NAME}; expected "
            f"a folder with {FILE_NAME} and model.json, as models/train is, a Keras file (.hdf5) "
            "or null"
        )
    try:
        source, ranges = load_checkpoint(folder)
    except UserError as error:
        raise DetectNetError(f"model.pretrained: {error}") from error
    if ranges is not None or is_folded(source):
        kind = "an 8-bit network" if ranges is not None else "folded into its convolutions"
        raise DetectNetError(
            f"model.pretrained: {path} is {kind}, expected a float network with its batch "
            "normalisation, as models/train or models/prune holds"
        )
    return source


def _layers(model: DetectNet) -> Layers:
    """Return the tensors of each layer by its name, from input to output."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    return {name: layer.state_dict() for name, layer in layers.items()}


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _summarize(taken: Taken, path: Path) -> str:
    total = len(taken.names) + len(taken.left_out)
    text = f"{len(taken.names)} of {total} layers taken from {path}"
    if not taken.left_out:
        return text
    named = [f"{name} ({reason})" for name, reason in taken.left_out.items()]
    more = f" and {len(named) - NAMED_LAYERS} more" if len(named) > NAMED_LAYERS else ""
    return f"{text}, left out: {', '.join(named[:NAMED_LAYERS])}{more}"


def _describe(architecture: Architecture) -> str:
    width, height = architecture.input_wh
    channels = architecture.channels["conv1"]
    return f"resnet{architecture.num_layers} of width {channels} at {width}x{height}"
