import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from deploy.core.model_json import check_sha256, read_model_json
from deploy.core.preprocess import images_to_batch
from deploy.core.roi import RoiRule
from stages.gesturenet import onnx_export
from stages.gesturenet.config import GESTURES
from stages.gesturenet.errors import GestureError
from stages.gesturenet.feed import crops_to_tensor
from stages.gesturenet.model import Architecture, GestureClassifier
from stages.gesturenet.onnx_export import (
    FILES,
    TOLERANCE,
    export_model,
    export_onnx,
    load_model,
    run_onnx,
)
from tests.stages.gesturenet.samples import striped_crops

CROPS = striped_crops(3, size_px=160, box_frac=0.7)


def small_model(*blocks: int) -> GestureClassifier:
    torch.manual_seed(0)
    model = GestureClassifier(Architecture(width=8, blocks=blocks or (1, 1, 1)))
    with torch.no_grad():
        for _step in range(3):
            model(crops_to_tensor(CROPS.images))
    model.temperature.fill_(0.7)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gesture")
    export_model(folder, small_model(), calibration=crops_to_tensor(CROPS.images), rule=RoiRule())
    return folder


def test_model_json_is_a_classifiers(exported: Path) -> None:
    info = read_model_json(exported)
    check_sha256(exported, info)
    assert info.kind == "classifier"
    assert info.classes == GESTURES
    assert info.input_name == "input_1"
    assert info.input_shape == (3, 160, 160)
    assert info.outputs == {"activation_18": (6,)}
    assert info.roi == RoiRule(mode="ratio", ratio=1.4, square=True, border="pad")
    assert info.preprocess.offset == (0.0, 0.0, 0.0)
    assert json.loads((exported / "model.json").read_text())["schema"] == 1


@pytest.mark.parametrize(("role", "opset"), [("fp32", 11), ("qdq", 13)])
def test_onnx_has_gesturenets_tensors_and_a_free_batch(
    exported: Path, role: str, opset: int
) -> None:
    model = onnx.load(exported / FILES[role])
    onnx.checker.check_model(model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    (source,), (target,) = model.graph.input, model.graph.output
    assert (source.name, target.name) == ("input_1", "activation_18")
    shape = [one.dim_param or one.dim_value for one in source.type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 160, 160]


@pytest.mark.parametrize("role", ["fp32", "qdq"])
def test_onnx_runtime_agrees_with_pytorch_on_the_runtimes_tensors(
    exported: Path, role: str
) -> None:
    """The tolerances are those of onnx_export.TOLERANCE; INT8 is compared with FP32 here."""
    batch = images_to_batch(list(CROPS.images), input_wh=(160, 160))
    with torch.no_grad():
        expected = small_model()(torch.from_numpy(batch)).numpy()
    scores = run_onnx(exported / FILES[role], batch)
    assert np.abs(scores - expected).max() <= TOLERANCE[role]
    assert np.abs(scores.sum(axis=1) - 1).max() < 1e-5


def test_every_convolution_is_quantized_and_the_last_layer_is_not(exported: Path) -> None:
    graph = onnx.load(exported / FILES["qdq"]).graph
    maker = {name: node for node in graph.node for name in node.output}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convs) == 10

    def comes_from_int8(name: str) -> bool:
        node = maker[name]
        if node.op_type == "Cast":
            node = maker[node.input[0]]
        return node.op_type == "DequantizeLinear"

    assert all(comes_from_int8(name) for node in convs for name in node.input[:2])
    additions = [node for node in graph.node if node.op_type == "Add"]
    assert len(additions) == 3
    assert all(any(comes_from_int8(name) for name in node.input) for node in additions)
    (last,) = [node for node in graph.node if node.op_type == "Gemm"]
    assert maker[last.input[0]].op_type == "Flatten"


def test_a_deeper_network_is_quantized_in_the_same_way(tmp_path: Path) -> None:
    model = small_model(1, 2, 2)
    calibration = crops_to_tensor(CROPS.images)
    export_model(tmp_path, model, calibration=calibration, rule=RoiRule())
    graph = onnx.load(str(tmp_path / FILES["qdq"])).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    additions = [node for node in graph.node if node.op_type == "Add"]
    assert [[made_by[name] for name in node.input] for node in additions] == [
        ["Conv", "DequantizeLinear"]
    ] * 5
    assert sum(node.op_type == "Conv" for node in graph.node) == 1 + 3 * 5
    again = load_model(tmp_path / FILES["torch"])
    assert again.architecture == model.architecture
    assert torch.equal(again(calibration), model(calibration))


def test_equal_models_give_equal_bytes(exported: Path, tmp_path: Path) -> None:
    calibration = crops_to_tensor(CROPS.images)
    export_model(tmp_path, small_model(), calibration=calibration, rule=RoiRule())
    for name in (*FILES.values(), "model.json"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes(), name


def test_saved_weights_come_back(exported: Path, tmp_path: Path) -> None:
    model, images = small_model(), crops_to_tensor(CROPS.images)
    assert torch.equal(load_model(exported / "model.pt")(images), model(images))
    other = tmp_path / "model.pt"
    other.write_bytes(b"something else")
    with pytest.raises(GestureError, match="is no gesture classifier"):
        load_model(other)


def test_a_file_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export_other(network: torch.nn.Module, path: Path, *, opset: int) -> None:
        torch.manual_seed(1)
        export_onnx(GestureClassifier(Architecture(width=8)), path, opset=opset)

    monkeypatch.setattr(onnx_export, "export_onnx", export_other)
    with pytest.raises(GestureError, match=r"gesture\.onnx: a probability differs by"):
        export_model(
            tmp_path, small_model(), calibration=crops_to_tensor(CROPS.images), rule=RoiRule()
        )
