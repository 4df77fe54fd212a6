"""ONNX files of the detector: detector.onnx in FP32, and detector_qdq.onnx with 8-bit rounding.

FP32 has opset 11, which TensorRT 7.1 reads; Q/DQ has opset 13, the first with a scale per channel
(TensorRT 8 and later, OpenVINO, ONNX Runtime). Both have NVIDIA's tensor names input_1,
output_cov/Sigmoid and output_bbox/BiasAdd, a dynamic batch and folded batch normalisation. Inner
tensors are named `<layer>/<operator>`, which the calibration cache refers to. Equal networks give
equal bytes: no paths, dates or traces of the exporter stay in the file.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from stages.detectnet.errors import DetectNetError
from stages.detectnet.model import DetectNet
from stages.detectnet.model_info import BBOX, COVERAGE, INPUT
from stages.detectnet.rounding import INPUT_QUANTIZER

if TYPE_CHECKING:
    import onnx

FLOAT_OPSET, QDQ_OPSET = 11, 13
# What ONNX 1.6 and 1.8 wrote with these opsets; older parsers refuse newer numbers.
IR_VERSIONS = {FLOAT_OPSET: 6, QDQ_OPSET: 7}


class Difference(NamedTuple):
    """Absolute differences between PyTorch and ONNX Runtime: the largest, and the mean."""

    coverage: float
    bbox: float
    coverage_mean: float
    bbox_mean: float


def export_onnx(model: DetectNet, *, opset: int) -> "onnx.ModelProto":
    """Export a folded network in eval mode, float or rounding (round_model), and check it."""
    import onnx

    width, height = model.architecture.input_wh
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript exporter is deprecated in torch 2.9, but the new one starts at opset 18.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, height, width),),
            buffer,  # type: ignore[arg-type]  # the stub knows paths only
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[COVERAGE, BBOX],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, COVERAGE, BBOX)},
        )
    exported = onnx.load_from_string(buffer.getvalue())
    _clean(exported, ir_version=IR_VERSIONS[opset])
    onnx.checker.check_model(exported, full_check=True)
    return exported


def tensor_ranges(
    model: "onnx.ModelProto", ranges: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Map the activations' ranges to the tensors of detector.onnx, in the graph's order.

    A tensor in front of an activation function has no range of its own, unless it is rounded
    itself (placement "tao"); it gets the one behind the function: what lies outside is clipped
    there anyway, and the two run as one. The heads' outputs have none, they stay float.
    """
    mapped = {INPUT: _largest(ranges, INPUT_QUANTIZER)}
    consumers = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type == "Constant":  # a bound of ReLU6, no tensor of the network
            continue
        consumer = consumers.get(node.output[0])
        candidates = [node, consumer] if _is_activation(consumer) else [node]
        names = [_output_quantizer(candidate) for candidate in candidates if candidate]
        known = [name for name in names if name in ranges]
        if known:
            mapped[node.output[0]] = _largest(ranges, known[0])
    return mapped


def measure_difference(model: DetectNet, path: Path, *, num_images: int) -> Difference:
    """Run PyTorch and ONNX Runtime on the same generated pictures (see make_images).

    ONNX Runtime takes the file literally, without its optimisations: with them it also rounds the
    biases of 8-bit convolutions, which is ten times what the file itself differs by.
    """
    import onnxruntime

    images = make_images(num_images, input_wh=model.architecture.input_wh)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run([COVERAGE, BBOX], {INPUT: images})
    with torch.inference_mode():
        expected = [output.numpy() for output in model(torch.from_numpy(images))]
    coverage, bbox = (np.abs(one - other) for one, other in zip(expected, found, strict=True))
    return Difference(
        float(coverage.max()), float(bbox.max()), float(coverage.mean()), float(bbox.mean())
    )


def rounding_effect(model: DetectNet, rounded: DetectNet, *, num_images: int) -> float:
    """Return the mean absolute change of the coverage that rounding to 8 bits makes, in PyTorch.

    The same computation in another order of sums puts values on the other side of rounding edges,
    here and there; how far that carries depends on the network, and this is its measure.
    """
    images = torch.from_numpy(make_images(num_images, input_wh=model.architecture.input_wh))
    with torch.inference_mode():
        change = model(images).coverage - rounded(images).coverage
    return float(change.abs().mean())


def check_difference(seen: float, path: Path, *, tolerance: float) -> None:
    """Raise DetectNetError when the coverage differs by more than `tolerance`, or is NaN."""
    if not seen <= tolerance:
        raise DetectNetError(
            f"{path.name} differs from PyTorch by {seen:.2g} in {COVERAGE}, "
            f"expected at most {tolerance:g}; check the versions of onnxruntime and torch"
        )


def make_images(num_images: int, *, input_wh: list[int]) -> np.ndarray:
    """Draw smooth colour fields with noise, (N, 3, H, W) float32 in [0, 1], equal every time."""
    width, height = input_wh
    random = np.random.default_rng(0)
    coarse = random.random((num_images, 3, height // 16, width // 16))
    smooth = coarse.repeat(16, axis=2).repeat(16, axis=3)
    noise = random.random((num_images, 3, height, width))
    return (0.8 * smooth + 0.2 * noise).astype(np.float32)


def _clean(model: "onnx.ModelProto", *, ir_version: int) -> None:
    """Give nodes and tensors readable names and drop what varies or leaks; in place."""
    model.ir_version = ir_version
    model.producer_name, model.producer_version, model.doc_string = "hand-detector", "1", ""
    graph = model.graph
    graph.name, graph.doc_string = "detector", ""
    for repeated in (graph.value_info, graph.metadata_props, model.metadata_props):
        del repeated[:]
    renamed: dict[str, str] = _drop_identities(graph) | _rename_constants(graph)
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        node.name = node.name.strip("/")
        if node.output[0] not in (COVERAGE, BBOX):
            renamed[node.output[0]] = node.name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [_follow(renamed, name) for name in names]


def _drop_identities(graph: "onnx.GraphProto") -> dict[str, str]:
    """Remove the exporter's copies of shared constants; returns copy -> original."""
    copies = [node for node in graph.node if node.op_type == "Identity"]
    for node in copies:
        graph.node.remove(node)
    return {node.output[0]: node.input[0] for node in copies}


def _follow(renamed: Mapping[str, str], name: str) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _rename_constants(graph: "onnx.GraphProto") -> dict[str, str]:
    renamed: dict[str, str] = {}
    for constant in graph.initializer:
        if constant.name.startswith("onnx::"):
            renamed[constant.name] = f"constant_{len(renamed)}"
            constant.name = renamed[constant.name]
    return renamed


def _output_quantizer(node: "onnx.NodeProto") -> str:
    return f"{node.name.rpartition('/')[0]}.output_quantizer"


def _is_activation(node: "onnx.NodeProto | None") -> bool:
    return node is not None and node.op_type in ("Relu", "Clip")


def _largest(ranges: Mapping[str, torch.Tensor], name: str) -> float:
    return float(ranges[name].max())
