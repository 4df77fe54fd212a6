"""TAO's files under the project's contract: names, sizes, ranges."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from stages.detectnet.calibration_cache import parse_cache
from stages.tao.errors import TaoError
from stages.tao.model_folder import (
    count_parameters,
    read_facts,
    render_cache,
    write_normalized,
)

WH = (96, 64)


def write_onnx(path: Path, wh: tuple[int, int] = WH, *, classes: int = 1) -> Path:
    """A network with TensorFlow's names: a convolution per head, and an inner tensor with ":0"."""
    nodes = [
        helper.make_node("Conv", ["input_1:0", "k", "b"], ["cov:0"], strides=[16, 16]),
        helper.make_node("Sigmoid", ["cov:0"], ["output_cov/Sigmoid:0"]),
        helper.make_node("Conv", ["input_1:0", "kb"], ["output_bbox/BiasAdd:0"], strides=[16, 16]),
    ]

    def tensor(name: str, *shape: int) -> TensorProto:
        values = np.full(shape, 0.001, np.float32).ravel()
        return helper.make_tensor(name, TensorProto.FLOAT, shape, values)

    def port(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])

    rows, columns = wh[1] // 16, wh[0] // 16
    graph = helper.make_graph(
        nodes,
        "tao",
        [port("input_1:0", 3, wh[1], wh[0])],
        [
            port("output_cov/Sigmoid:0", classes, rows, columns),
            port("output_bbox/BiasAdd:0", 4 * classes, rows, columns),
        ],
        [
            tensor("k", classes, 3, 16, 16),
            tensor("b", classes),
            tensor("kb", 4 * classes, 3, 16, 16),
        ],
    )
    opset = [helper.make_opsetid("", 12)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), str(path))
    return path


def test_the_marks_of_tensorflow_go_and_the_numbers_stay(tmp_path: Path) -> None:
    source, target = write_onnx(tmp_path / "tao.onnx"), tmp_path / "detector.onnx"
    write_normalized(source, target, input_wh=WH)
    images = np.random.default_rng(0).random((2, 3, 64, 96), np.float32)
    before = onnxruntime.InferenceSession(str(source)).run(None, {"input_1:0": images})
    session = onnxruntime.InferenceSession(str(target))
    names = [port.name for port in session.get_outputs()]
    assert names == ["output_cov/Sigmoid", "output_bbox/BiasAdd"]
    after = session.run(names, {"input_1": images})
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    # Ranges refer to inner tensors by the names that they have.
    assert "cov:0" in {name for node in onnx.load(str(target)).graph.node for name in node.output}
    assert count_parameters(target) == 3 * 256 + 1 + 12 * 256


@pytest.mark.parametrize(("wh", "classes"), [((160, 64), 1), (WH, 3)])
def test_another_network_is_refused(tmp_path: Path, wh: tuple[int, int], classes: int) -> None:
    source = write_onnx(tmp_path / "tao.onnx", wh, classes=classes)
    with pytest.raises(TaoError, match="is it a DetectNet_v2 of one class"):
        write_normalized(source, tmp_path / "out.onnx", input_wh=WH)


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tao.onnx").write_bytes(b"\x07\0\0\0input_1encrypted")
    with pytest.raises(TaoError, match="is no ONNX file"):
        write_normalized(tmp_path / "tao.onnx", tmp_path / "out.onnx", input_wh=WH)


def test_ranges_become_a_cache_under_the_contracts_names(tmp_path: Path) -> None:
    ranges = tmp_path / "ranges.json"
    ranges.write_text(json.dumps({"tensor_scales": {"input_1:0": 1.0, "block_1a_relu:0": 6.0}}))
    text = render_cache(ranges, version=8503)
    # 6 / 127 = 0.04724409 is 3d418306 as NVIDIA writes it.
    assert text.splitlines()[0] == "TRT-8503-EntropyCalibration2"
    assert text.splitlines()[2] == "block_1a_relu:0: 3d418306"
    assert list(parse_cache(text, source="text").scales) == ["input_1", "block_1a_relu:0"]


@pytest.mark.parametrize(
    "content", ["{}", "no json", '{"tensor_scales": {}}', '{"tensor_scales": {"a": 0}}']
)
def test_a_file_without_ranges_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "ranges.json").write_text(content)
    with pytest.raises(TaoError, match="dvc repro retrain"):
        render_cache(tmp_path / "ranges.json", version=8503)


def test_a_folder_of_another_generation_or_backend_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaoError, match="no model folder of the TAO backend"):
        read_facts(tmp_path, "tao5")
    facts = {"generation": "tao4", "num_layers": 34, "input_wh": WH, "all_projections": True}
    (tmp_path / "tao.json").write_text(json.dumps(facts))
    with pytest.raises(TaoError, match="was made by tao4, backend.tao.generation is tao5"):
        read_facts(tmp_path, "tao5")
    assert read_facts(tmp_path, "tao4").input_wh == WH
