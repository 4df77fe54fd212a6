"""Networks of NVIDIA's in Keras' file format, written here in its layout with made-up numbers."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from stages.detectnet.errors import DetectNetError
from stages.detectnet.keras_weights import read_keras_layers
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.pretrained import take_weights
from tests.stages.detectnet.tiny import tiny_model

HEADS = ("output_cov", "output_bbox")


def write_keras(path: Path, model: DetectNet, *, nested: str = "", classes: int = 3) -> None:
    """Write a network as Keras saves a whole model, with heads for other classes."""
    state = model.state_dict()
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights")
        file.create_dataset("optimizer_weights/Adam/conv1/kernel:0", data=np.ones((7, 7, 3, 8)))
        for name, layer in model.named_modules():
            if not isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d):
                continue
            group = root.create_group("/".join(part for part in (nested or name, name) if part))
            weight = state[f"{name}.weight"].numpy()
            if isinstance(layer, torch.nn.Conv2d):
                kernel = weight.transpose(2, 3, 1, 0)
                group["kernel:0"] = np.repeat(kernel, classes, 3) if name in HEADS else kernel
                bias = state[f"{name}.bias"].numpy()
                group["bias:0"] = np.repeat(bias, classes) if name in HEADS else bias
            else:
                group["gamma:0"], group["beta:0"] = weight, state[f"{name}.bias"].numpy()
                group["moving_mean:0"] = state[f"{name}.running_mean"].numpy()
                group["moving_variance:0"] = state[f"{name}.running_var"].numpy()


@pytest.mark.parametrize("nested", ["", "model_1"])
def test_a_network_computes_what_it_did_in_keras_layout(tmp_path: Path, nested: str) -> None:
    earlier = tiny_model()
    write_keras(tmp_path / "model.hdf5", earlier, nested=nested, classes=1)
    model = DetectNet(earlier.architecture)
    taken = take_weights(model, tmp_path / "model.hdf5")
    assert taken.left_out == {}
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = earlier.eval()(images), model.eval()(images)
    assert torch.equal(expected.coverage, found.coverage)
    assert torch.equal(expected.bbox, found.bbox)


def test_heads_of_other_classes_stay_fresh_and_the_trunk_is_taken(tmp_path: Path) -> None:
    earlier = tiny_model()
    write_keras(tmp_path / "model.hdf5", earlier)
    model = DetectNet(earlier.architecture)
    before = model.output_cov.weight.clone()  # type: ignore[union-attr,operator]
    taken = take_weights(model, tmp_path / "model.hdf5")
    assert taken.left_out == {"output_cov": "shape", "output_bbox": "shape"}
    assert torch.equal(model.output_cov.weight, before)  # type: ignore[arg-type]
    assert torch.equal(model.conv1.weight, earlier.conv1.weight)  # type: ignore[arg-type]


def test_peoplenets_layer_names_are_those_of_resnet34(tmp_path: Path) -> None:
    peoplenet = DetectNet(build_architecture(34, width=8, input_wh=[96, 64]))
    write_keras(tmp_path / "model.hdf5", peoplenet)
    model = DetectNet(build_architecture(34, width=8, input_wh=[160, 96]))
    assert len(take_weights(model, tmp_path / "model.hdf5").names) == 2 * (1 + 16 * 3)


def test_a_convolution_without_a_bias_gets_one_of_zeros(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.hdf5", "w") as file:
        file["model_weights/conv1/conv1/kernel:0"] = np.ones((7, 7, 3, 4), np.float32)
        file["model_weights/dense/dense/kernel:0"] = np.ones((4, 2), np.float32)
    layers = read_keras_layers(tmp_path / "model.hdf5")
    assert list(layers) == ["conv1"]
    assert layers["conv1"]["weight"].shape == (4, 3, 7, 7)
    assert layers["conv1"]["bias"].tolist() == [0.0] * 4


def test_a_file_that_is_no_network_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.hdf5"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DetectNetError, match="cannot be read as HDF5"):
        read_keras_layers(path)
    with h5py.File(path, "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(DetectNetError, match="has no convolution"):
        read_keras_layers(path)
