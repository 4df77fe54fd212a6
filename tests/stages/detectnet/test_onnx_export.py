from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from stages.detectnet.calibration_cache import parse_cache
from stages.detectnet.checkpoint import Checkpoint
from stages.detectnet.compression_config import ExportConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.exporting import FILES, export_detector
from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.model import replace_activation
from stages.detectnet.onnx_export import make_images, measure_difference
from stages.detectnet.rounding import round_model
from tests.stages.detectnet.tiny import INPUT_WH, known_ranges, tiny_model, write_another_network

IMAGES = torch.from_numpy(make_images(8, input_wh=INPUT_WH))


def make_checkpoint(**options):
    model = fold_batch_norm(tiny_model(**options))
    return Checkpoint(model, known_ranges(model, IMAGES))


@pytest.fixture(scope="module", params=[(10, True), (18, False)], ids=["resnet10", "identity"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    num_layers, all_projections = request.param
    checkpoint = make_checkpoint(num_layers=num_layers, all_projections=all_projections)
    return folder, checkpoint, export_detector(folder, checkpoint, ExportConfig())


@pytest.fixture(scope="module")
def exported_as_tao(tmp_path_factory):
    """ReLU6, NVIDIA's placement, and one range per kernel, which a folded network may have."""
    folder = tmp_path_factory.mktemp("tao")
    model = replace_activation(fold_batch_norm(tiny_model()), "relu6")
    ranges = known_ranges(
        model, IMAGES, quantize_heads=False, placement="tao", weight_axis="tensor"
    )
    checkpoint = Checkpoint(model, ranges)
    return folder, checkpoint, export_detector(folder, checkpoint, ExportConfig())


def load(folder, role):
    return onnx.load(folder / FILES[role])


def count_operators(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(("role", "opset"), [("fp32", 11), ("qdq", 13)])
def test_files_have_the_contract_names_and_a_dynamic_batch(exported, role, opset):
    model = load(exported[0], role)
    assert [item.version for item in model.opset_import] == [opset]
    (images,) = model.graph.input
    outputs = {output.name: output for output in model.graph.output}
    assert images.name == "input_1"
    assert list(outputs) == ["output_cov/Sigmoid", "output_bbox/BiasAdd"]
    assert shape_of(images) == ["batch", 3, 64, 96]
    assert shape_of(outputs["output_cov/Sigmoid"]) == ["batch", 1, 4, 6]
    assert shape_of(outputs["output_bbox/BiasAdd"]) == ["batch", 4, 4, 6]


def shape_of(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_float_file_has_folded_batch_norm_and_no_rounding(exported):
    operators = count_operators(load(exported[0], "fp32"))
    assert set(operators) == {"Conv", "Relu", "Add", "Sigmoid"}


def test_qdq_file_has_one_pair_per_kernel_and_per_activation(exported):
    folder, checkpoint, _ = exported
    operators = count_operators(load(folder, "qdq"))
    float_operators = count_operators(load(folder, "fp32"))
    shortcuts = sum(name.endswith("_shortcut") for name in checkpoint.model.architecture.channels)
    pairs = float_operators["Conv"] + 1 + float_operators["Relu"] + shortcuts
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == pairs
    assert operators["Identity"] == 0


def test_rounding_is_symmetric_signed_and_per_channel_for_kernels(exported):
    model = load(exported[0], "qdq")
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    kernels = 0
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        if node.input[0] in constants:
            kernels += 1
            assert scale.shape == (constants[node.input[0]].shape[0],)
            assert {item.name: item.i for item in node.attribute} == {"axis": 0}
        else:
            assert scale.shape == ()
    assert kernels == count_operators(model)["Conv"]


def test_float_file_matches_pytorch(exported):
    """1e-4: sums in another order; measured 1e-7."""
    assert exported[2].fp32.coverage <= 1e-4
    assert exported[2].fp32.bbox <= 1e-3


def test_qdq_file_matches_pytorch(exported):
    """A value near a tie tips by one step of 1/127 of its range; measured 0.005 and 0.0003."""
    assert exported[2].qdq.coverage <= 0.03
    assert exported[2].qdq.coverage_mean <= 2e-3


def test_openvino_computes_every_convolution_in_8_bits(exported):
    openvino = pytest.importorskip("openvino")
    folder, checkpoint, _ = exported
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(folder / FILES["qdq"]),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1},
    )
    kinds = Counter()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        info = operator.get_rt_info()
        if info["layerType"].astype(str) == "Convolution":
            kinds[info["runtimePrecision"].astype(str)] += 1
    assert set(kinds) <= {"u8", "i8"}
    assert sum(kinds.values()) == len(checkpoint.model.architecture.channels) + 2
    coverage = compiled({0: IMAGES.numpy()})[0]
    with torch.no_grad():
        expected = round_model(*checkpoint)(IMAGES).coverage.numpy()
    # OpenVINO folds scales otherwise than ONNX Runtime, so a few more values tip over.
    assert np.abs(coverage - expected).max() < 0.03


def test_calibration_cache_names_tensors_of_the_float_file(exported):
    folder, checkpoint, result = exported
    cache = parse_cache((folder / FILES["calibration"]).read_text(), source="cache")
    graph = load(folder, "fp32").graph
    tensors = {"input_1", *(node.output[0] for node in graph.node)}
    heads = {"output_cov/Conv", "output_cov/Sigmoid", "output_bbox/BiasAdd"}
    assert set(cache.scales) == tensors - heads
    assert result.num_ranges == len(cache.scales)
    step = checkpoint.ranges["block_1a_relu.output_quantizer"].item() / 127
    assert cache.scales["block_1a_relu/Relu"] == pytest.approx(step)
    assert cache.scales["block_1a_add/Add"] == pytest.approx(step)


def test_cache_and_qdq_file_hold_the_same_steps(exported):
    folder, _, _ = exported
    cache = parse_cache((folder / FILES["calibration"]).read_text(), source="cache")
    graph = load(folder, "qdq").graph
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    steps = {
        node.input[0].replace("/activation", ""): float(constants[node.input[1]])
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[1] in constants
    }
    assert "input_1" in steps
    assert "block_2a_conv_shortcut/Conv" in steps
    for tensor, step in steps.items():
        assert cache.scales[tensor] == pytest.approx(step, rel=1e-6), tensor


def test_tao_files_have_relu6_and_a_pair_per_rounded_tensor(exported_as_tao):
    """Input, 9 ReLU6, 4 x (both branches, sum), 13 kernels; the two heads stay."""
    folder, _, result = exported_as_tao
    assert set(count_operators(load(folder, "fp32"))) == {
        "Conv",
        "Clip",
        "Add",
        "Sigmoid",
        "Constant",
    }
    operators = count_operators(load(folder, "qdq"))
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 1 + 9 + 4 * 3 + 13
    assert result.fp32.coverage <= 1e-4
    assert result.qdq.coverage_mean <= 2e-3


def test_tao_kernels_have_one_scale(exported_as_tao):
    model = load(exported_as_tao[0], "qdq")
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    kernels = {item.name for item in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert sum(node.input[0] in kernels for node in pairs) == 13
    assert {constants[node.input[1]].shape for node in pairs} == {()}


def test_tao_cache_has_the_tensors_own_ranges_and_no_bounds_of_relu6(exported_as_tao):
    folder, checkpoint, _ = exported_as_tao
    cache = parse_cache((folder / FILES["calibration"]).read_text(), source="cache")
    nodes = load(folder, "fp32").graph.node
    tensors = {"input_1", *(node.output[0] for node in nodes if node.op_type != "Constant")}
    heads = {"output_cov/Conv", "output_cov/Sigmoid", "output_bbox/BiasAdd"}
    assert set(cache.scales) == tensors - heads
    for tensor in ("block_1a_conv_2/Conv", "block_1a_add/Add", "block_1a_relu/Clip"):
        largest = checkpoint.ranges[f"{tensor.split('/')[0]}.output_quantizer"].item()
        assert cache.scales[tensor] * 127 == pytest.approx(largest)
    assert cache.scales["conv1/Conv"] == cache.scales["conv1_relu/Clip"]


def test_equal_networks_give_equal_bytes_without_traces(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        export_detector(tmp_path / name, make_checkpoint(), ExportConfig(check_images=1))
    for file in FILES.values():
        content = (tmp_path / "one" / file).read_bytes()
        assert content == (tmp_path / "two" / file).read_bytes()
        assert b"/torch/" not in content
        assert b".py" not in content


@pytest.mark.parametrize(("opset", "file"), [(11, "detector.onnx"), (13, "detector_qdq.onnx")])
def test_wrong_results_are_refused(tmp_path, monkeypatch, opset, file):
    write_another_network(monkeypatch, opset=opset)
    with pytest.raises(DetectNetError, match=f"{file} differs from PyTorch by"):
        export_detector(tmp_path, make_checkpoint(), ExportConfig())


def test_a_network_that_sees_nothing_in_generated_pictures_passes(tmp_path):
    checkpoint = make_checkpoint()
    with torch.no_grad():
        checkpoint.model.output_cov.bias.sub_(14.0)
    exported = export_detector(tmp_path, checkpoint, ExportConfig(tolerance_qdq=0.0))
    assert 0.0 < exported.qdq.coverage_mean < 1.0e-5


def test_a_float_network_is_refused(tmp_path):
    with pytest.raises(DetectNetError, match="is not quantized"):
        export_detector(tmp_path, Checkpoint(tiny_model(), None), ExportConfig())


def test_difference_sees_another_network(exported):
    folder, checkpoint, _ = exported
    with torch.no_grad():
        checkpoint.model.output_cov.bias.add_(0.1)
    moved = measure_difference(checkpoint.model, folder / FILES["fp32"], num_images=1)
    with torch.no_grad():
        checkpoint.model.output_cov.bias.sub_(0.1)
    assert moved.coverage > 0.005
