"""TensorRT's implicit INT8 in ONNX Runtime: what detector.onnx and its calibration cache become.

The cache has ranges of activations only. TensorRT rounds a kernel per output channel by its
largest absolute value / 127, both read from the FP32 file, and each tensor with a range by that
range; biases stay, and so do the two heads, whose outputs have no range. Convolution, addition and
activation run as one layer where they can ("fused"): tensors inside it are then not rounded.
"""

import copy
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

HEADS = ("output_cov", "output_bbox")


def emulate_implicit_int8(
    model: onnx.ModelProto, scales: Mapping[str, float], *, fused: bool
) -> onnx.ModelProto:
    """Return the FP32 model with rounded kernels and a Q/DQ pair behind every rounded tensor.

    scales: size of one step by tensor, from the cache. fused: leave out what a fused layer never
    stores; otherwise every tensor of the cache is rounded.
    """
    rounded = copy.deepcopy(model)
    rounded.ir_version = 7
    del rounded.opset_import[:]
    rounded.opset_import.append(helper.make_opsetid("", 13))
    _round_kernels(rounded.graph)
    inner = _inner_tensors(rounded.graph) if fused else set()
    nodes = [] if "input_1" not in scales else _pair("input_1", scales["input_1"])
    renamed = {"input_1": "input_1/rounded"} if nodes else {}
    for node in rounded.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        nodes.append(node)
        output = node.output[0]
        if output in scales and output not in inner:
            nodes += _pair(output, scales[output])
            renamed[output] = f"{output}/rounded"
    del rounded.graph.node[:]
    rounded.graph.node.extend(nodes)
    onnx.checker.check_model(rounded, full_check=True)
    return rounded


def _pair(tensor: str, scale: float) -> list[onnx.NodeProto]:
    """Make the constants, QuantizeLinear and DequantizeLinear of one tensor."""
    step = helper.make_tensor(f"{tensor}/step", onnx.TensorProto.FLOAT, (), [scale])
    zero = helper.make_tensor(f"{tensor}/zero", onnx.TensorProto.INT8, (), [0])
    steps, middle, output = f"{tensor}/steps", f"{tensor}/8bit", f"{tensor}/rounded"
    zeros = f"{tensor}/zeros"
    return [
        helper.make_node("Constant", [], [steps], value=step),
        helper.make_node("Constant", [], [zeros], value=zero),
        helper.make_node("QuantizeLinear", [tensor, steps, zeros], [middle]),
        helper.make_node("DequantizeLinear", [middle, steps, zeros], [output]),
    ]


def _round_kernels(graph: onnx.GraphProto) -> None:
    constants = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or node.name.startswith(HEADS):
            continue
        stored = constants[node.input[1]]
        kernel = numpy_helper.to_array(stored)  # (F, C, kernel, kernel)
        step = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
        step = np.where(step > 0, step, np.float32(1))
        rounded = (np.rint(kernel / step) * step).astype(np.float32)
        stored.CopyFrom(numpy_helper.from_array(rounded, stored.name))


def _inner_tensors(graph: onnx.GraphProto) -> set[str]:
    """List tensors that stay inside a layer: in front of activations, and conv_2's sums."""
    inner = set()
    for node in graph.node:
        if node.op_type in ("Relu", "Clip"):
            inner.add(node.input[0])
        if node.op_type == "Add":
            inner.update(name for name in node.input if "_conv_2/" in name)
    return inner
