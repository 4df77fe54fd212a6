"""The plan (which runtime, which file, why) by table, and every runtime against plain NumPy."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from deploy import engine
from deploy.core.errors import DeployError
from deploy.engine import open_engine, plan_engine
from tests.deploy import tiny_models

BOTH = ("openvino", "onnxruntime")
INT8 = tiny_models.detector_info()
FP32_ONLY = tiny_models.classifier_info()
INT8_ONLY = INT8._replace(files={"qdq": "detector_qdq.onnx"})


@pytest.fixture(scope="module")
def detector_dir(tmp_path_factory):
    pytest.importorskip("onnx")
    return tiny_models.write_detector(tmp_path_factory.mktemp("detector"))


def random_batch(num, seed=0):
    rng = np.random.RandomState(seed)
    return rng.uniform(0, 1, (num,) + INT8.input_shape).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "runtime", "precision", "installed", "expected", "word"),
    [
        (INT8, "auto", "auto", BOTH, ("openvino", "int8", "detector_qdq.onnx"), "first installed"),
        (INT8, "auto", "auto", BOTH[1:], ("onnxruntime", "fp32", "detector.onnx"), "slower"),
        (INT8, "onnxruntime", "auto", BOTH, ("onnxruntime", "fp32", "detector.onnx"), "slower"),
        (INT8, "onnxruntime", "int8", BOTH, ("onnxruntime", "int8", "detector_qdq.onnx"), "asked"),
        (INT8, "openvino", "bf16", BOTH, ("openvino", "bf16", "detector.onnx"), "asked"),
        (INT8, "auto", "fp32", BOTH, ("openvino", "fp32", "detector.onnx"), "first installed"),
        (FP32_ONLY, "auto", "auto", BOTH, ("openvino", "fp32", "gesture.onnx"), "no INT8"),
        (INT8_ONLY, "auto", "auto", BOTH[1:], ("onnxruntime", "int8"), "no FP32"),
    ],
)
def test_plan_by_table(model, runtime, precision, installed, expected, word):
    plan = plan_engine(model, runtime=runtime, precision=precision, installed=installed)
    assert plan[: len(expected)] == expected
    assert word in plan.reason


@pytest.mark.parametrize(
    ("model", "runtime", "precision", "installed", "words"),
    [
        (INT8, "auto", "auto", (), ["no runtime", "pip install onnxruntime"]),
        (INT8, "openvino", "auto", BOTH[1:], ["openvino", "pip install openvino"]),
        (FP32_ONLY, "auto", "int8", BOTH, ["tiny-classifier", "int8", "it has: fp32, bf16"]),
        (INT8, "onnxruntime", "bf16", BOTH, ["bf16", "it has: fp32, int8"]),
    ],
)
def test_what_cannot_run_is_one_line_with_the_next_step(
    model, runtime, precision, installed, words
):
    with pytest.raises(DeployError) as caught:
        plan_engine(model, runtime=runtime, precision=precision, installed=installed)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_hint_names_the_last_release_for_an_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 6, 15))
    with pytest.raises(DeployError, match=r"onnxruntime==1\.10\.0 \(its last for Python 3\.6\)"):
        plan_engine(INT8, runtime="auto", precision="auto", installed=())


@pytest.mark.parametrize(("runtime", "precision"), [("tensorflow", "auto"), ("auto", "int4")])
def test_unknown_words_are_refused(runtime, precision):
    with pytest.raises(ValueError, match="known: auto"):
        plan_engine(INT8, runtime=runtime, precision=precision, installed=BOTH)


# Rounding to 1/127 moves a cell's mean red by at most 1/254, its logit by 20/254 and its coverage
# by a quarter of that; FP32 differs by the order of summation alone.
TOLERANCE = {"fp32": 1e-5, "int8": 0.02, "bf16": 0.02}


@pytest.mark.parametrize("num", [0, 1, 3])
@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("openvino", "fp32"),
        ("openvino", "int8"),
        ("openvino", "bf16"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    ],
)
def test_runtime_agrees_with_numpy(detector_dir, runtime, precision, num):
    pytest.importorskip(runtime)
    batch = random_batch(num)
    with open_engine(detector_dir, runtime=runtime, precision=precision) as opened:
        outputs = opened.infer(batch)
        info = opened.info()
    expected = tiny_models.detect(batch)
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        assert outputs[name].dtype == np.float32
        assert outputs[name].shape == value.shape
        np.testing.assert_allclose(outputs[name], value, atol=TOLERANCE[precision])
    assert (info["runtime"], info["precision"]) == (runtime, precision)
    assert set(info) == {"runtime", "version", "precision", "file", "device", "threads"}
    json.dumps(info)


@pytest.mark.parametrize("runtime", BOTH)
def test_batch_sizes_in_any_order_agree_with_one_by_one(detector_dir, runtime):
    pytest.importorskip(runtime)
    batch = random_batch(4)
    with open_engine(detector_dir, runtime=runtime, threads=1) as opened:
        singles = [opened.infer(batch[i : i + 1])["output_cov/Sigmoid"] for i in range(4)]
        for num in (4, 2, 3):
            together = opened.infer(batch[:num])["output_cov/Sigmoid"]
            np.testing.assert_allclose(together, np.concatenate(singles[:num]), atol=1e-6)
        assert opened.info()["threads"] == 1


@pytest.mark.parametrize("runtime", BOTH)
def test_outputs_survive_the_next_inference(detector_dir, runtime):
    pytest.importorskip(runtime)
    with open_engine(detector_dir, runtime=runtime) as opened:
        first = opened.infer(random_batch(1, seed=1))["output_cov/Sigmoid"]
        kept = first.copy()
        opened.infer(random_batch(1, seed=2))
        np.testing.assert_array_equal(first, kept)


def test_batch_of_another_shape_or_type_is_refused(detector_dir):
    pytest.importorskip("onnxruntime")
    with open_engine(detector_dir, runtime="onnxruntime") as opened:
        for batch in (np.zeros((1, 3, 96, 161), np.float32), np.zeros((3, 96, 160), np.float32)):
            with pytest.raises(ValueError, match="expected"):
                opened.infer(batch)
        with pytest.raises(ValueError, match="float64"):
            opened.infer(np.zeros((1, 3, 96, 160)))


@pytest.mark.parametrize("runtime", BOTH)
def test_damaged_onnx_file_is_one_line(tmp_path, runtime):
    pytest.importorskip("onnx")
    pytest.importorskip(runtime)
    folder = tiny_models.write_detector(tmp_path / "model")
    (folder / "detector.onnx").write_bytes(b"not a network")
    opening = open_engine(folder, runtime=runtime, precision="fp32")
    with pytest.raises(DeployError, match=r"detector\.onnx") as caught, opening:
        pass
    assert "\n" not in str(caught.value)


def test_folder_without_model_json_is_one_line(tmp_path):
    with pytest.raises(DeployError, match=r"model\.json"), open_engine(tmp_path):
        pass


def test_an_encrypted_model_names_the_place_of_the_converters_command(tmp_path):
    tiny_models.write_encrypted(tmp_path)
    with pytest.raises(DeployError) as caught, open_engine(tmp_path):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert "model gesturenet is encrypted (gesturenet.etlt)" in message
    assert str(tmp_path / "convert.md") in message
    assert "--no-gesture" in message


def test_auto_takes_what_is_importable(detector_dir, monkeypatch, caplog):
    pytest.importorskip("onnxruntime")
    found = importlib.util.find_spec

    def without_openvino(name, *args):
        return None if name == "openvino" else found(name, *args)

    monkeypatch.setattr(engine.importlib.util, "find_spec", without_openvino)
    with caplog.at_level("INFO"), open_engine(detector_dir) as opened:
        assert opened.info()["file"] == "detector.onnx"
    assert "INT8 is slower than FP32 in ONNX Runtime" in caplog.text
