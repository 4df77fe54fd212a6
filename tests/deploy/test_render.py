"""Rendered folders: accepted by the checker and by the protobufs, with model.json's values."""

import re
import subprocess
import sys

import pytest

from deploy import render
from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from deploy.core.model_json import add_sha256, read_model_json, write_model_json
from deploy.core.preprocess import Preprocess
from deploy.deepstream import margin_app
from deploy.deepstream.app_config import DetectorFile, detector_groups, write_ini
from deploy.deepstream.folder import KEY_VARIABLE
from deploy.deepstream.pbtxt import parse_message
from deploy.deepstream.versions import RELEASES, find_release
from tests.deploy import tiny_models

VERSIONS = [release.version for release in RELEASES]
FILE = DetectorFile("fp16", "models/detector.onnx", "models/e.engine", None)


@pytest.fixture
def folders(tmp_path):
    """Model folders whose files hold made-up bytes: rendering does not read them."""
    infos = {
        "detector": tiny_models.detector_info(
            files={"fp32": "detector.onnx", "qdq": "detector_qdq.onnx", "calibration": "c.bin"}
        ),
        "gesture": tiny_models.classifier_info(),
    }
    for name, info in infos.items():
        folder = tmp_path / name
        folder.mkdir()
        for file in info.files.values():
            (folder / file).write_bytes(file.encode())
        write_model_json(folder, add_sha256(folder, info))
    return tmp_path


def deepstream(folders, version="6.3", *extra, **changes):
    options = {
        "--version": version,
        "--model": folders / "detector",
        "--gesture": folders / "gesture",
        "--source": "csi://0",
        "--sink": "window",
        "--out": folders / "out",
    }
    options.update({f"--{name}": value for name, value in changes.items()})
    words = [str(word) for pair in options.items() if pair[1] is not None for word in pair]
    return render.main(["--target", "deepstream", *words, *extra])


def ini(folders, name):
    text = (folders / "out" / name).read_text(encoding="utf-8")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_accepts_what_is_rendered_for_it(folders, version, capsys):
    assert deepstream(folders, version, "--sink", "out.mp4", "--sink", "rtsp://:8554") == 0
    assert render.main(["--check", str(folders / "out"), "--version", version]) == 0
    assert ": 5 files, 0 problems" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["/dev/video2", "rtsp://cam/1", "clip.mp4", "http://h/a.mp4"])
def test_every_source_is_accepted(folders, source):
    assert deepstream(folders, source=source) == 0
    assert render.main(["--check", str(folders / "out"), "--version", "6.3"]) == 0


@pytest.mark.parametrize("target", ["deepstream", "triton"])
@pytest.mark.parametrize("form", ["onnx", "plan"])
def test_triton_configurations_are_model_configs(folders, target, form):
    text_format = pytest.importorskip("google.protobuf.text_format")
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    if target == "deepstream":
        assert deepstream(folders, "6.3", "--form", form) == 0
    else:
        models = ["--model", str(folders / "detector"), "--gesture", str(folders / "gesture")]
        out = ["--out", str(folders / "out"), "--form", form]
        assert render.main(["--target", "triton", *models, *out]) == 0
    paths = sorted((folders / "out").rglob("config.pbtxt"))
    assert len(paths) == (1 if target == "deepstream" else 2)
    for path in paths:
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        assert config.name == path.parent.name
        assert config.platform == {"plan": "tensorrt_plan", "onnx": "onnxruntime_onnx"}[form]
        assert len(config.instance_group) == len(config.model_warmup) == 1
        assert config.HasField("dynamic_batching")
        assert config.version_policy.latest.num_versions == 1
    config_of_gesture = text_format.Parse(paths[0].read_text(), model_config_pb2.ModelConfig())
    assert list(config_of_gesture.input[0].dims) == [3, 160, 160]
    assert [list(output.dims) for output in config_of_gesture.output] == [[6]]


def test_values_of_the_detector_are_those_of_model_json(folders):
    assert deepstream(folders, precision="fp16") == 0
    values = ini(folders, "config_infer_detector.txt")
    assert values["infer-dims"] == "3;96;160"
    assert float(values["net-scale-factor"]) == Preprocess().scale
    assert values["network-mode"] == "2"
    assert values["cluster-mode"] == "1"
    assert (values["eps"], values["minBoxes"]) == ("0.7", "1")
    assert (values["pre-cluster-threshold"], values["dbscan-min-score"]) == ("0.4", "1.0")
    labels = (folders / "out/labels_gesture.txt").read_text()
    assert labels == "thumbs_up;fist;stop;ok;two;random\n"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cluster": "nms", "confidence": "max"}, ["cluster-mode=2", "nms-iou-threshold=0.5"]),
        (
            {"cluster": "nms", "confidence": "max", "confidence_threshold": 0.6},
            ["pre-cluster-threshold=0.6"],
        ),
        ({"confidence": "mean"}, ["post-cluster-threshold=1.0"]),
        ({"min_samples": 3.9}, ["minBoxes=3"]),
        ({"min_samples": 0.05}, ["minBoxes=1"]),
    ],
)
def test_clustering_by_table(changes, expected):
    rule = Postprocess("dbscan", 0.4, 0.7, 1.0, 0.5, "sum", 1.0, 4.0)._replace(**changes)
    model = tiny_models.detector_info(postprocess=rule)
    lines = write_ini(detector_groups(model, FILE, find_release("6.3"))).splitlines()
    assert set(expected) <= set(lines)


def test_int8_has_its_cache_and_qdq_is_built_by_trtexec_before_9_1(folders):
    assert deepstream(folders) == 0
    values = ini(folders, "config_infer_detector.txt")
    assert (values["network-mode"], values["int8-calib-file"]) == ("1", "models/c.bin")
    assert (folders / "out/models/c.bin").read_bytes() == b"c.bin"
    for version, builds in (("6.3", 2), ("9.1", 1)):
        assert deepstream(folders, version, precision="qdq", out=folders / version) == 0
        script = (folders / version / "run.sh").read_text()
        assert script.count("trtexec") == builds
        text = (folders / version / "config_infer_detector.txt").read_text()
        assert "onnx-file=models/detector_qdq.onnx" in text
        assert ("strongly-typed=1" in text) == (version == "9.1")


def test_prebuilt_engine_takes_the_place_of_the_model(folders):
    assert deepstream(folders, engine="my.engine") == 0
    values = ini(folders, "config_infer_detector.txt")
    assert values["model-engine-file"] == "my.engine"
    assert "onnx-file" not in values


def test_encrypted_detector_takes_its_key_from_the_environment(folders, monkeypatch, capsys):
    folder = folders / "encrypted"
    folder.mkdir()
    (folder / "d.etlt").write_bytes(b"made up")
    info = tiny_models.detector_info(files={"etlt": "d.etlt"})
    write_model_json(folder, add_sha256(folder, info))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert deepstream(folders, "6.0", model=folder) == 1
    assert KEY_VARIABLE in capsys.readouterr().err
    monkeypatch.setenv(KEY_VARIABLE, "made-up")
    assert deepstream(folders, "6.0", model=folder) == 0
    assert ini(folders, "config_infer_detector.txt")["tlt-model-key"] == "made-up"
    assert deepstream(folders, "7.1", model=folder, out=folders / "new") == 1
    assert "etlt" in capsys.readouterr().err


def test_encrypted_classifier_is_asked_for_with_its_guide(folders):
    tiny_models.write_encrypted(folders / "gesturenet")
    assert deepstream(folders, "6.0", gesture=folders / "gesturenet") == 0
    assert (folders / "out/models/convert.md").read_text() == "made up\n"
    done = subprocess.run(  # noqa: UP022 (3.6 has no capture_output)
        [str(folders / "out/run.sh")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,  # noqa: UP021 (3.6 has no text)
    )
    assert done.returncode == 1
    assert "1/model.plan is missing; models/convert.md" in done.stderr


@pytest.mark.parametrize(("version", "field"), [("5.1", "trt_is"), ("6.0", "triton")])
def test_gesture_forms_differ_in_what_the_classifier_tells(folders, version, field):
    assert deepstream(folders, version) == 0
    for name, process in (("gesture", "classification"), ("gesture_tensor", "other")):
        path = folders / "out" / f"config_infer_{name}.txt"
        fields = parse_message(path.read_text(), source=name)
        infer = {item.name: item.value for item in fields[0].value}
        assert process in [item.name for item in infer["postprocess"]]
        assert field in [item.name for item in infer["backend"]]
        tensors = "output_tensor_meta: true" in path.read_text()
        assert tensors == (process == "other")


@pytest.mark.parametrize(
    ("version", "flags", "absent"),
    [
        ("5.0", ["--explicitBatch", "--workspace=1024"], ["--memPoolSize"]),
        ("6.0", ["--workspace=1024"], ["--explicitBatch"]),
        ("7.1", ["--memPoolSize=workspace:1024"], ["--workspace", "--explicitBatch"]),
    ],
)
def test_trtexec_has_the_flags_of_its_release(folders, version, flags, absent):
    assert deepstream(folders, version) == 0
    words = re.findall(r"--\S+", (folders / "out/run.sh").read_text())
    assert set(flags) <= set(words)
    assert not {word.split("=")[0] for word in words} & set(absent)
    assert "--maxShapes=input_1:2x3x160x160" in words


@pytest.mark.parametrize(
    ("version", "changes", "words"),
    [
        ("6.5", {}, ["6.5", "known: 5.0, 5.1"]),
        ("6.1", {"sink": "overlay"}, ["overlay", "drm"]),
        ("6.0", {"sink": "drm"}, ["drm", "overlay"]),
        ("6.3", {"sink": "out.avi"}, ["out.avi", "NAME.mp4"]),
        ("6.3", {"source": "ftp://a/b"}, ["ftp://a/b", "csi://N"]),
        ("6.3", {"source": "my clip.mp4"}, ["my clip.mp4", "blank"]),
        ("6.3", {"out": "a b"}, ["a b", "blank"]),
        ("6.3", {"source": None}, ["--source", "missing"]),
        ("6.0", {"tracker": "nvsort"}, ["nvsort", "known: iou, nvdcf"]),
        ("5.1", {"precision": "qdq"}, ["7.1", "--precision int8"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folders, version, changes, words, capsys):
    assert deepstream(folders, version, **changes) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert not (folders / "out").exists()


@pytest.mark.parametrize(("version", "module"), [("6.3", "pyds"), ("8.0", "pyservicemaker")])
def test_margin_application_reads_what_is_rendered(folders, version, module, monkeypatch, capsys):
    """It gets as far as the bindings, which only a machine with DeepStream has."""
    assert deepstream(folders, version) == 0
    monkeypatch.setitem(sys.modules, module, None)
    assert margin_app.main(["--folder", str(folders / "out")]) == 1
    assert f"error: {module} is not installed" in capsys.readouterr().err


def test_swapped_folders_are_named(folders, capsys):
    assert deepstream(folders, model=folders / "gesture") == 1
    assert "--model takes the folder of a detector" in capsys.readouterr().err


def test_missing_field_of_model_json_is_named(folders, capsys):
    path = folders / "detector/model.json"
    path.write_text(path.read_text().replace('"postprocess"', '"post"'))
    assert deepstream(folders) == 1
    assert "post" in capsys.readouterr().err


def test_a_folder_with_files_is_not_overwritten(folders, capsys):
    (folders / "out").mkdir()
    (folders / "out/mine.txt").write_text("mine")
    assert deepstream(folders) == 1
    assert "not empty" in capsys.readouterr().err
    assert sorted(p.name for p in (folders / "out").iterdir()) == ["mine.txt"]


def test_equal_models_give_equal_bytes(folders):
    for name in ("first", "second"):
        assert deepstream(folders, out=folders / name) == 0
    first, second = (
        {p.relative_to(folders / name): p.read_bytes() for p in (folders / name).rglob("*.*")}
        for name in ("first", "second")
    )
    assert first == second


def test_other_grids_and_confidences_are_refused():
    from deploy.core.errors import DeployError

    release = find_release("6.3")
    rule = Postprocess("nms", 0.4, 0.7, 1.0, 0.5, "sum", 1.0, 4.0)
    for changes in ({"grid": Grid(scale=10.0)}, {"postprocess": rule}):
        with pytest.raises(DeployError, match=r"scale|strongest"):
            detector_groups(tiny_models.detector_info(**changes), FILE, release)
    centred = tiny_models.detector_info(preprocess=Preprocess(resize="letterbox"))
    with pytest.raises(DeployError, match=r"6\.0"):
        detector_groups(centred, FILE, find_release("5.1"))


@pytest.mark.parametrize(
    ("version", "expected"), [("5.1", "libnvds_mot_klt.so"), ("6.3", "config_tracker_IOU.yml")]
)
def test_guide_names_tracker_container_and_precision(folders, version, expected):
    assert deepstream(folders, version) == 0
    guide = (folders / "out" / "README.md").read_text(encoding="utf-8")
    assert f"- tracker: {expected}\n" in guide
    assert re.search(rf"nvcr\.io/nvidia/deepstream(-l4t)?:{version}", guide)
    assert "detector.onnx as int8" in guide


def test_guide_says_that_nvinfer_does_not_prefer_inner_boxes(folders):
    for share in (0.0, 0.75):
        info = read_model_json(folders / "detector")
        rule = info.postprocess._replace(inner_confidence=share)
        write_model_json(folders / "detector", info._replace(postprocess=rule))
        out = folders / f"out{share}"
        assert deepstream(folders, out=out) == 0
        guide = (out / "README.md").read_text(encoding="utf-8")
        assert ("nvinfer does not know inner_confidence" in guide) == (share > 0.0)
