"""Building with each generation: which file, which flags, the check, refusals, atomicity."""

import json

import pytest

from deploy import tensorrt_kernel, tensorrt_make
from deploy.build import main
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json, write_model_json
from deploy.engine import open_engine
from deploy.reference import FILE_NAME, find_fault
from deploy.tensorrt_cache import cache_bytes, read_scales, version_number
from deploy.tensorrt_plan import Capabilities, plan_build
from deploy.tensorrt_record import RECORD_NAME, engine_folder, read_record
from tests.deploy import tiny_models
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.recorded_tensorrt import VERSIONS, make_tensorrt
from tests.deploy.tensorrt_device import (
    CACHE,
    HAS_ONNX,
    use_device,
    write_classifier,
    write_detector,
)

INFO = tiny_models.detector_info()
BOTH = INFO._replace(files=dict(INFO.files, calibration="calibration_qat.bin"))
CACHED = BOTH._replace(files={"fp32": "detector.onnx", "calibration": "calibration_qat.bin"})
FP32_ONLY = tiny_models.classifier_info()


@pytest.fixture(autouse=True)
def _no_nvcc(monkeypatch):
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


def device(version, **changes):
    major = int(version.split(".")[0])
    capabilities = Capabilities(
        version=version,
        gpu="Board",
        sm="8.7",
        has_precision_flags=major < 11,
        has_calibration=major < 11,
        reads_qdq=major >= 8,
        fast_fp16=True,
        fast_int8=True,
    )
    return capabilities._replace(**changes)


NANO = device("8.2", sm="5.3", fast_int8=False)
XAVIER = device("8.5", dla_cores=2)


@pytest.mark.parametrize(
    ("capabilities", "model", "asked", "expected", "word"),
    [
        (device("7.1"), BOTH, {}, ("int8", "cache", "detector.onnx"), "cache found"),
        (device("8.5"), BOTH, {}, ("int8", "qdq", "detector_qdq.onnx"), "Q/DQ"),
        (device("8.5"), CACHED, {}, ("int8", "cache", "detector.onnx"), "cache found"),
        (device("10.3"), BOTH, {}, ("int8", "qdq", "detector_qdq.onnx"), "Q/DQ"),
        (device("11.4"), BOTH, {}, ("int8", "qdq", "detector_qdq.onnx"), "Q/DQ"),
        (device("11.4"), CACHED, {}, ("fp32", None, "detector.onnx"), "types from the file"),
        (device("8.5"), BOTH, {"quantization": "cache"}, ("int8", "cache"), "cache found"),
        (device("8.5"), FP32_ONLY, {}, ("fp16", None, "gesture.onnx"), "has neither, so fp16"),
        (device("8.5"), BOTH, {"precision": "fp32"}, ("fp32", None, "detector.onnx"), "as asked"),
        (NANO, BOTH, {}, ("fp16", None, "detector.onnx"), "(SM 5.3) has no INT8, so fp16"),
        (NANO, BOTH, {"precision": "int8"}, ("fp16", None), "has no INT8, so fp16"),
        (XAVIER, BOTH, {"dla": 1}, ("int8", "cache", "detector.onnx"), "cache found"),
        (XAVIER, FP32_ONLY, {"dla": 0}, ("fp16", None, "gesture.onnx"), "so fp16"),
        (device("8.5", fast_fp16=False), FP32_ONLY, {}, ("fp32", None), "no fast FP16, so fp32"),
    ],
)
def test_plan_by_table(capabilities, model, asked, expected, word):
    plan = plan_build(capabilities, model, **asked)
    assert plan[: len(expected)] == expected
    assert word in plan.reason
    assert plan.calibration == ("calibration_qat.bin" if plan.quantization == "cache" else None)


@pytest.mark.parametrize(
    ("capabilities", "model", "asked", "words"),
    [
        (NANO, BOTH, {"precision": "int8", "strict": True}, ["has no INT8", "--strict"]),
        (
            device("11.4"),
            CACHED,
            {"precision": "int8", "strict": True},
            ["takes INT8 from a Q/DQ"],
        ),
        (device("7.1"), INFO, {"precision": "int8", "strict": True}, ["a calibration cache"]),
        (device("11.4"), BOTH, {"precision": "fp16"}, ["autocast", "detector_fp16.onnx"]),
        (device("8.5"), BOTH, {"dla": 0}, ["has 0 DLA cores", "leave --dla out"]),
        (XAVIER, BOTH, {"dla": 2}, ["has 2 DLA cores", "or use 0"]),
        (XAVIER, BOTH, {"dla": 0, "precision": "fp32"}, ["FP16 and INT8 only"]),
        (
            device("8.5"),
            INFO._replace(files={"qdq": "q.onnx"}),
            {"precision": "fp16"},
            ["no FP32"],
        ),
    ],
)
def test_what_cannot_be_built_is_one_line(capabilities, model, asked, words):
    with pytest.raises(DeployError) as error:
        plan_build(capabilities, model, **asked)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("version", "precision", "expected", "forbidden"),
    [
        (
            "7.1",
            "int8",
            [
                "network flags 1",
                "max_workspace_size 1024",
                "BuilderFlag.FP16",
                "BuilderFlag.INT8",
                "TRT-7103-EntropyCalibration2",
            ],  # fmt: skip
            ["timing", "tactics", "WORKSPACE"],
        ),
        (
            "8.4",
            "int8",
            ["MemoryPoolType.WORKSPACE 1024", "BuilderFlag.INT8", "timing cache 0"],
            ["tactics", "max_workspace", "EntropyCalibration2"],
        ),
        ("8.5", "fp16", ["BuilderFlag.FP16", "tactics 24"], ["BuilderFlag.INT8"]),
        ("8.5", "fp32", ["no BuilderFlag.TF32"], ["BuilderFlag.FP16", "BuilderFlag.INT8"]),
        ("10.3", "int8", ["network flags 1", "BuilderFlag.INT8"], ["max_workspace"]),
        ("11.0", "int8", ["network flags 1"], ["BuilderFlag.FP16", "BuilderFlag.INT8"]),
        ("11.0", "fp32", ["no BuilderFlag.TF32"], ["BuilderFlag.FP16"]),
    ],
)
def test_builder_is_told_what_its_version_knows(
    detector, monkeypatch, version, precision, expected, forbidden
):
    libraries = use_device(monkeypatch, version)
    assert main(["--model", str(detector), "--precision", precision]) == 0
    log = libraries.trt.log
    assert [word for word in expected if word not in log] == []
    assert [entry for entry in log for word in forbidden if word in entry.replace("no ", "")] == []


def test_implicit_int8_takes_the_cache_with_this_versions_header(detector, monkeypatch):
    libraries = use_device(monkeypatch, "10.3")
    arguments = ["--model", str(detector), "--precision", "int8", "--quantization", "cache"]
    assert main(arguments) == 0
    assert "TRT-100300-EntropyCalibration2" in libraries.trt.log
    record = read_record(engine_folder(detector, "int8"), detector)
    assert (record.quantization, record.onnx) == ("cache", "detector.onnx")
    assert record.calibration_sha256 == read_model_json(detector).sha256["calibration_qat.bin"]


def test_library_that_makes_nothing_ends_with_its_own_words(detector, monkeypatch, capsys):
    """As 8.5.3 does without a driver: no error, a warning, and a TypeError of pybind11."""
    libraries = use_device(monkeypatch)

    def fail(logger):
        logger.log(libraries.trt.ILogger.Severity.WARNING, "CUDA initialization failure 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    fail.__name__ = "Builder"
    libraries.trt.Builder = fail
    assert main(["--model", str(detector)]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed == "error: TensorRT: Builder failed: CUDA initialization failure 35"


def test_strongly_typed_network_gets_no_precision_flags(detector, monkeypatch):
    libraries = use_device(monkeypatch, "10.3")
    arguments = ["--model", str(detector), "--precision", "int8", "--strongly-typed"]
    assert main(arguments) == 0
    assert "network flags 3" in libraries.trt.log
    assert "BuilderFlag.INT8" not in libraries.trt.log


def test_dla_falls_back_to_the_gpu_and_takes_one_batch_size(detector, monkeypatch):
    libraries = use_device(monkeypatch, trt=make_tensorrt("8.5", dla_cores=2))
    assert main(["--model", str(detector), "--batch", "2", "--dla", "1"]) == 0
    assert "BuilderFlag.GPU_FALLBACK" in libraries.trt.log
    record = read_record(engine_folder(detector, "int8", 1), detector)
    assert (record.dla, record.profile, record.place) == (1, (2, 2, 2), "int8-dla1")
    batch = tiny_models.draw_frame([("fist", 0, 0)], wh=(160, 96))[None, :, :, ::-1]
    batch = (batch.transpose(0, 3, 1, 2) / 255.0).astype("float32")
    with open_engine(detector, runtime="tensorrt") as engine:
        assert engine.infer(batch)["output_cov/Sigmoid"].shape[0] == 1
        assert engine.info()["device"].endswith("DLA 1")


def test_engine_json_says_what_it_was_built_with(detector, monkeypatch):
    use_device(monkeypatch)
    assert main(["--model", str(detector), "--precision", "fp16", "--batch", "3"]) == 0
    document = json.loads((engine_folder(detector, "fp16") / RECORD_NAME).read_text())
    model = read_model_json(detector)
    assert document["tensorrt"] == VERSIONS["8.5"]
    assert (document["gpu"], document["sm"], document["dla"]) == ("Recorded GPU", "8.7", None)
    assert (document["precision"], document["profile"]) == ("fp16", [1, 1, 3])
    assert document["onnx_sha256"] == model.sha256["detector.onnx"]
    assert document["calibration_sha256"] is None
    assert document["seconds"] >= 0
    assert set(document["check"]) == set(model.outputs)
    assert document["check"]["output_cov/Sigmoid"]["p99"] <= 1e-5


def test_timing_cache_of_the_first_build_is_given_to_the_second(detector, monkeypatch):
    libraries = use_device(monkeypatch)
    assert main(["--model", str(detector), "--precision", "fp16"]) == 0
    assert main(["--model", str(detector), "--precision", "fp16"]) == 0
    assert [entry for entry in libraries.trt.log if "timing" in entry] == [
        "timing cache 0",
        "timing cache 7",
    ]


def test_cache_that_lacks_tensors_names_them(tmp_path, monkeypatch, capsys):
    folder = write_detector(tmp_path / "d", cache=CACHE.replace("input_1", "other"))
    use_device(monkeypatch)
    arguments = ["--model", str(folder), "--precision", "int8", "--quantization", "cache"]
    assert main(arguments) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "calibration_qat.bin: lacks the ranges of" in printed
    assert "input_1" in printed
    assert not (folder / "tensorrt" / "int8").exists()


@pytest.mark.parametrize(
    ("cache", "words"),
    [("", ":1: expected TRT-"), (CACHE + "no colon\n", ":3: 'no colon'")],
    ids=["empty", "line"],
)
def test_malformed_cache_names_the_line(tmp_path, cache, words):
    path = tmp_path / "calibration_qat.bin"
    path.write_text(cache, encoding="ascii")
    with pytest.raises(DeployError) as error:
        read_scales(path)
    assert words in str(error.value)


def test_cache_keeps_its_ranges_under_another_header(tmp_path):
    path = tmp_path / "calibration_qat.bin"
    path.write_text(CACHE, encoding="ascii")
    assert read_scales(path) == {"input_1": pytest.approx(1 / 127, rel=1e-5)}
    assert cache_bytes(path, "7.1.3.0").decode() == CACHE.replace("8503", "7103")
    assert version_number("10.3.0.26") == 100300


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnx: a NumPy model is not parsed")
def test_truncated_onnx_shows_the_parsers_words(detector, monkeypatch, capsys):
    use_device(monkeypatch)
    path = detector / "detector.onnx"
    path.write_bytes(path.read_bytes()[:100])
    arguments = ["--model", str(detector), "--precision", "fp32", "--unchecked"]
    assert main(arguments) == 1
    assert "sha256" in capsys.readouterr().err
    info = read_model_json(detector)
    hashes = dict(info.sha256, **{"detector.onnx": tensorrt_make.hash_file(path)})
    write_model_json(detector, info._replace(sha256=hashes))
    assert main(arguments) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "cannot read it: node 0: Failed to parse ONNX model from buffer" in printed


@pytest.mark.parametrize("value", [0.5, float("nan")], ids=["other", "nan"])
def test_wrong_answers_are_refused_and_the_engine_before_stays(
    detector, monkeypatch, capsys, value
):
    use_device(monkeypatch)
    arguments = ["--model", str(detector), "--precision", "fp16"]
    assert main(arguments) == 0
    before = (engine_folder(detector, "fp16") / RECORD_NAME).read_bytes()
    use_device(monkeypatch, trt=make_tensorrt("8.5", spoil=lambda array: array + value))
    assert main(arguments) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "fp16 engine answers otherwise than" in printed
    assert "expected at most 0.01" in printed
    assert (engine_folder(detector, "fp16") / RECORD_NAME).read_bytes() == before
    leftovers = [p.name for p in (detector / "tensorrt").iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_fault_is_found_at_the_tolerance_of_the_precision():
    found = {"a": {"p99": 0.05, "range": 3.0, "max": 1.0}}
    assert find_fault(found, precision="int8") is None
    assert find_fault(found, precision="fp16") == ("a", pytest.approx(0.03))


def test_without_any_reference_it_says_what_to_do(detector, monkeypatch, capsys):
    use_device(monkeypatch)
    monkeypatch.setattr("deploy.reference.importlib.util.find_spec", lambda name: None)
    if (detector / FILE_NAME).exists():
        (detector / FILE_NAME).unlink()
    assert main(["--model", str(detector)]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "--write-reference" in printed
    assert main(["--model", str(detector), "--unchecked"]) == 0


@pytest.mark.skipif(not HAS_ONNX, reason="needs onnxruntime to write the reference")
def test_stored_reference_serves_where_onnx_runtime_is_not_installed(
    detector, monkeypatch, capsys
):
    use_device(monkeypatch)
    assert main(["--model", str(detector), "--write-reference"]) == 0
    monkeypatch.setattr("deploy.reference.importlib.util.find_spec", lambda name: None)
    assert main(["--model", str(detector), "--precision", "fp32"]) == 0
    record = read_record(engine_folder(detector, "fp32"), detector)
    assert record.reference == "reference.npz, detector.onnx"
    info = read_model_json(detector)
    hashes = dict(info.sha256, **{"detector.onnx": "0" * 64})
    with pytest.raises(DeployError, match="is of another detector.onnx"):
        tensorrt_make.find_reference(
            detector, info._replace(sha256=hashes), tensorrt_make.sample_batch(info), role="fp32"
        )


def test_classifier_gets_room_for_the_hands_of_a_frame(tmp_path, monkeypatch):
    use_device(monkeypatch)
    folder = write_classifier(tmp_path / "c")
    assert main(["--model", str(folder)]) == 0
    assert read_record(engine_folder(folder, "fp16"), folder).profile == (1, 1, 4)


def test_gpu_memory_is_all_given_back(detector, monkeypatch):
    cuda = make_pycuda()
    use_device(monkeypatch, cuda=cuda)
    assert main(["--model", str(detector)]) == 0
    assert (cuda.ledger.allocations, cuda.ledger.retained) == (0, 0)


def test_fp16_typed_file_beside_the_model_serves_tensorrt_11(detector, monkeypatch, capsys):
    libraries = use_device(monkeypatch, "11.0")
    assert main(["--model", str(detector), "--precision", "fp16"]) == 1
    assert "detector_fp16.onnx" in capsys.readouterr().err
    (detector / "detector_fp16.onnx").write_bytes((detector / "detector.onnx").read_bytes())
    assert main(["--model", str(detector), "--precision", "fp16"]) == 0
    record = read_record(engine_folder(detector, "fp16"), detector)
    assert (record.precision, record.onnx) == ("fp16", "detector_fp16.onnx")
    assert "BuilderFlag.FP16" not in libraries.trt.log
    with open_engine(detector, runtime="tensorrt") as engine:
        assert engine.info()["file"] == "detector_fp16.onnx"


def test_timing_cache_of_another_gpu_is_begun_anew(detector, monkeypatch):
    libraries = use_device(monkeypatch)
    assert main(["--model", str(detector), "--precision", "fp16"]) == 0
    kind = libraries.trt.IBuilderConfig
    accept = kind.set_timing_cache
    monkeypatch.setattr(
        kind,
        "set_timing_cache",
        lambda self, cache, ignore: accept(self, cache, ignore) and not cache.content,
    )
    assert main(["--model", str(detector), "--precision", "fp16"]) == 0
    assert [entry for entry in libraries.trt.log if "timing" in entry] == [
        "timing cache 0",
        "timing cache 7",
        "timing cache 0",
    ]
