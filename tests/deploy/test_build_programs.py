"""Programs and engines: --build, measured choices, and models of NVIDIA's converters."""

import argparse
import json

import pytest

from deploy import tensorrt_kernel, tensorrt_make
from deploy.build import main
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json, write_model_json
from deploy.engine import open_engine
from deploy.models import Choice
from deploy.options import add_engine_arguments, open_engines
from deploy.tensorrt_record import ENGINE_NAME, RECORD_NAME, engine_folder, read_record
from tests.deploy import tiny_models
from tests.deploy.recorded_tensorrt import VERSIONS
from tests.deploy.tensorrt_device import HAS_ONNX, use_device, write_classifier, write_detector


@pytest.fixture(autouse=True)
def _no_nvcc(monkeypatch):
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)


def options(detector, gesture, *words):
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    return parser.parse_args(
        ["--detector", str(detector), "--gesture", str(gesture)] + list(words)
    )


def test_run_builds_when_asked_and_only_then(tmp_path, monkeypatch):
    use_device(monkeypatch)
    folders = write_detector(tmp_path / "d"), write_classifier(tmp_path / "c")
    unbuilt = open_engines(options(*folders, "--runtime", "tensorrt"))
    with pytest.raises(DeployError, match="start with --build"), unbuilt:
        raise AssertionError("nothing is built")
    with open_engines(options(*folders, "--build")) as engines:
        found = {name: engine.plan.precision for name, engine in engines.items()}
    assert found == {"detector": "int8", "gesture": "fp16"}
    place = engine_folder(folders[0], "int8") / RECORD_NAME
    stamp = place.stat().st_mtime_ns
    with open_engines(options(*folders, "--build")):
        assert place.stat().st_mtime_ns == stamp
    use_device(monkeypatch, "10.3")
    with open_engines(options(*folders, "--build")):
        assert json.loads(place.read_text())["tensorrt"] == VERSIONS["10.3"]


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnxruntime as the other runtime")
def test_measured_choice_of_tensorrt_counts_only_where_its_engine_is(tmp_path, monkeypatch):
    use_device(monkeypatch)
    folders = write_detector(tmp_path / "d"), write_classifier(tmp_path / "c")
    measured = Choice("tensorrt", "fp16")
    monkeypatch.setattr("deploy.options.choose_engine", lambda *words, **more: measured)
    with open_engines(options(*folders)) as engines:
        assert engines["detector"].plan.runtime != "tensorrt"
    assert main(["--model", str(folders[0]), "--precision", "fp16"]) == 0
    assert main(["--model", str(folders[1])]) == 0
    with open_engines(options(*folders)) as engines:
        assert engines["detector"].plan.precision == "fp16"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--build", "--runtime", "onnxruntime"], "makes TensorRT engines"),
        (["--build", "--precision", "bf16"], "not bf16"),
    ],
)
def test_build_refuses_what_is_not_tensorrts(tmp_path, words, message):
    folders = write_detector(tmp_path / "d"), write_classifier(tmp_path / "c")
    with pytest.raises(DeployError, match=message), open_engines(options(*folders, *words)):
        raise AssertionError("it must not open")


def write_encrypted(folder):
    tiny_models.write_encrypted(folder)
    guide = "# guide\n\n    ./tlt-converter -k one\n\ntext\n\n    ./tao-converter -k two -e x\n"
    (folder / "convert.md").write_text(guide, encoding="utf-8")
    info = read_model_json(folder)
    hashes = {name: tensorrt_make.hash_file(folder / name) for name in info.files.values()}
    write_model_json(folder, info._replace(sha256=hashes))
    return folder


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("7.1", "./tlt-converter -k one"),
        ("8.4", "./tao-converter -k two -e x"),
        ("8.5", "./tao-converter -k two -e x"),
        ("10.3", "NVIDIA made no converter for TensorRT 10.3.0.26"),
    ],
)
def test_encrypted_model_shows_this_versions_converter(
    tmp_path, monkeypatch, capsys, version, words
):
    use_device(monkeypatch, version)
    folder = write_encrypted(tmp_path / "g")
    assert main(["--model", str(folder)]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]


def test_converters_engine_is_taken_in_and_runs(tmp_path, monkeypatch):
    use_device(monkeypatch)
    open_one = write_classifier(tmp_path / "open")
    assert main(["--model", str(open_one)]) == 0
    folder = write_encrypted(tmp_path / "g")
    converted = (engine_folder(open_one, "fp16") / ENGINE_NAME).read_bytes()
    (folder / "gesturenet.engine").write_bytes(converted)
    assert main(["--model", str(folder)]) == 0
    record = read_record(engine_folder(folder, "fp16"), folder)
    assert (record.onnx, record.profile, record.reference[:4]) == (
        "gesturenet.etlt",
        (1, 1, 4),
        "none",
    )
    with open_engine(folder, runtime="tensorrt") as engine:
        assert engine.info()["file"] == "gesturenet.etlt"
