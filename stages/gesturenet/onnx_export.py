"""Writes the model folder: gesture.onnx, gesture_qdq.onnx (INT8), model.pt and model.json.

FP32 is opset 11, which TensorRT 7.1 reads; Q/DQ with per-channel weights needs opset 13. The INT8
model is made by nvidia-modelopt's post-training quantization: symmetric signed, per-channel
weights, per-tensor activations whose ranges are the extremes over calibration crops; the residual
input of each addition is quantized too, so that a runtime can fuse the addition; the last linear
layer stays in float. Each file is run by ONNX Runtime and compared with PyTorch before it counts
as written.
"""

import contextlib
import io
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from deploy.core.model_json import ModelInfo, add_sha256, write_model_json
from deploy.core.preprocess import Preprocess
from deploy.core.roi import RoiRule
from stages.gesturenet.config import GESTURES, INPUT_WH
from stages.gesturenet.errors import GestureError
from stages.gesturenet.model import Architecture, GestureClassifier, fold_batch_norm

INPUT_NAME = "input_1"
OUTPUT_NAME = "activation_18"
FILES = {"fp32": "gesture.onnx", "qdq": "gesture_qdq.onnx", "torch": "model.pt"}
OPSET = {"fp32": 11, "qdq": 13}

# Largest difference of a probability between PyTorch and ONNX Runtime on the same crops. FP32
# differs by the order of summation alone. In INT8 such a difference can move a value over a
# rounding edge, by one of 255 steps.
TOLERANCE = {"fp32": 1.0e-4, "qdq": 5.0e-2}
RUN_BATCH = 64
NUM_PARITY = 64

# modelopt's rules; a later one wins. The pooling and the last layer stay in float.
QUANTIZATION = {
    "quant_cfg": [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}},
        {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8, "axis": None}},
        {
            "quantizer_name": "*conv_shortcut.output_quantizer",
            "cfg": {"num_bits": 8, "axis": None},
        },
        {"quantizer_name": "pool*", "enable": False},
        {"quantizer_name": "classifier*", "enable": False},
    ],
    "algorithm": "max",
}


class ExportReport(NamedTuple):
    """Largest differences of a probability between PyTorch and ONNX Runtime, by role."""

    difference: dict[str, float]


def export_model(
    folder: Path, model: GestureClassifier, *, calibration: torch.Tensor, rule: RoiRule
) -> ExportReport:
    """Write the four files of a classifier into an empty folder; equal inputs give equal bytes.

    calibration: (N, 3, 160, 160) float32 RGB in [0, 1], N > 0: training crops as the runtime cuts
    them. Raises: GestureError when ONNX Runtime does not reproduce PyTorch within TOLERANCE.
    """
    folded = fold_batch_norm(model.cpu())
    networks: dict[str, nn.Module] = {
        "fp32": folded,
        "qdq": quantize(fold_batch_norm(model), calibration),
    }
    difference = {}
    for role, network in networks.items():
        export_onnx(network, folder / FILES[role], opset=OPSET[role])
        difference[role] = _check_parity(network, folder / FILES[role], calibration, role=role)
    save_model(folder / FILES["torch"], model)
    info = describe_model(rule)
    write_model_json(folder, add_sha256(folder, info))
    return ExportReport(difference)


def quantize(folded: GestureClassifier, calibration: torch.Tensor) -> nn.Module:
    """Return the network with INT8 quantizers whose ranges come from calibration crops.

    folded: a network without batch normalisation; it is changed in place. calibration:
    (N, 3, H, W) float32 in [0, 1].
    """
    mtq = _modelopt()

    def run(network: nn.Module) -> None:
        with torch.no_grad():
            for images in calibration.split(RUN_BATCH):
                network(images)

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # modelopt 0.47 warns of optional packages, and prints
        quantized = mtq.quantize(folded, QUANTIZATION, run)
    return quantized.eval()


def export_onnx(network: nn.Module, path: Path, *, opset: int) -> None:
    """Write a classifier as ONNX with a dynamic batch axis.

    The TorchScript exporter is used: torch 2.13's newer one cannot trace modelopt's quantizers.
    """
    example = torch.zeros(1, 3, INPUT_WH[1], INPUT_WH[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter calls itself deprecated; see above
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
            opset_version=opset,
            dynamo=False,
        )


def run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """Return the probabilities (N, 6) that ONNX Runtime computes for images (N, 3, 160, 160)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [
        session.run([OUTPUT_NAME], {INPUT_NAME: images[start : start + RUN_BATCH]})[0]
        for start in range(0, len(images), RUN_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, len(GESTURES)), np.float32)


def describe_model(rule: RoiRule) -> ModelInfo:
    """Return what model.json says of the classifier, without the hashes."""
    packages = ("torch", "onnx", "nvidia-modelopt")
    return ModelInfo(
        kind="classifier",
        name="gesture-classifier",
        files=FILES,
        input_name=INPUT_NAME,
        input_shape=(3, INPUT_WH[1], INPUT_WH[0]),
        outputs={OUTPUT_NAME: (len(GESTURES),)},
        preprocess=Preprocess(),
        classes=GESTURES,
        roi=rule,
        versions={package: version(package).split("+")[0] for package in packages},
    )


def save_model(path: Path, model: GestureClassifier) -> None:
    """Write architecture and weights, which load_model reads."""
    content = {"architecture": asdict(model.architecture), "state_dict": model.state_dict()}
    torch.save(content, path)


def load_model(path: Path) -> GestureClassifier:
    """Read a model.pt in evaluation mode on the CPU. Raises GestureError for another file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model = GestureClassifier(Architecture(**content["architecture"]))
        model.load_state_dict(content["state_dict"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise GestureError(
            f"{path} is no gesture classifier of this version ({reason}); "
            "run the gesture stage again"
        ) from error
    return model.eval()


def _modelopt() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optional packages that are not needed
        import modelopt.torch.quantization as mtq
    return mtq


def _check_parity(network: nn.Module, path: Path, images: torch.Tensor, *, role: str) -> float:
    images = images[:NUM_PARITY]
    with torch.no_grad():
        expected = network(images).numpy()
    difference = float(np.abs(run_onnx(path, images.numpy()) - expected).max())
    if not difference <= TOLERANCE[role]:
        raise GestureError(
            f"{path.name}: a probability differs by {difference:.2g} between ONNX Runtime and "
            f"PyTorch, expected at most {TOLERANCE[role]:g}; compare the installed versions with "
            "constraints.txt"
        )
    return difference
