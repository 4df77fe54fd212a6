"""Layers of NVIDIA's unencrypted networks: a Keras file (.hdf5), by layer name.

The layer of a weight is the group that holds it, wherever the model is nested: TAO saves a whole
model below `model_weights/`, an older file holds weights alone. Kernels are (height, width, in,
out) there and (out, in, height, width) here; batch normalisation is gamma, beta and the moving
mean and variance. Source: keras 2.2, engine/saving.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.detectnet.errors import DetectNetError

SUFFIXES = (".hdf5", ".h5")
OPTIMIZER = "optimizer_weights"
# Keras' name of a weight -> ours.
NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

Layers = dict[str, dict[str, torch.Tensor]]


def read_keras_layers(path: Path) -> Layers:
    """Return the tensors of every convolution and batch normalisation by layer name.

    Raises DetectNetError for a file that is no HDF5, is damaged, or has no such layer.
    """
    import h5py

    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: Any) -> None:
        parts = name.split("/")
        if isinstance(item, h5py.Dataset) and len(parts) > 1 and parts[0] != OPTIMIZER:
            found.setdefault(parts[-2], {})[parts[-1].partition(":")[0]] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise DetectNetError(
            f"model.pretrained: {path} cannot be read as HDF5 ({' '.join(str(error).split())}); "
            "get it again"
        ) from error
    layers = {name: layer for name, weights in found.items() if (layer := _convert(weights))}
    if not layers:
        raise DetectNetError(
            f"model.pretrained: {path} has no convolution; expected a network that Keras saved, "
            "as NVIDIA's unencrypted PeopleNet (model.hdf5)"
        )
    return layers


def _convert(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return a layer's tensors; empty for a layer of another kind."""
    is_convolution = "kernel" in weights and weights["kernel"].ndim == 4
    if not is_convolution and "moving_mean" not in weights:
        return {}
    layer = {}
    for name, values in weights.items():
        if name in NAMES:
            turned = values.transpose(3, 2, 0, 1) if name == "kernel" else values
            layer[NAMES[name]] = torch.from_numpy(np.ascontiguousarray(turned, dtype=np.float32))
    if is_convolution:
        layer.setdefault("bias", torch.zeros(len(layer["weight"])))
    else:
        layer["num_batches_tracked"] = torch.tensor(0)
    return layer
