"""Engines in the recorded TensorRT of each generation: outputs, memory, refusals in one line."""

import json

import numpy as np
import pytest

from deploy import engine as engine_module
from deploy import tensorrt_kernel
from deploy.build import main as build
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.engine import open_engine
from deploy.engine_tensorrt import load_libraries, open_network, pycuda_hint
from deploy.tensorrt_record import ENGINE_NAME, RECORD_NAME, engine_folder
from tests.deploy import tiny_models
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.recorded_tensorrt import VERSIONS, make_tensorrt
from tests.deploy.tensorrt_device import use_device, write_detector

ALL = sorted(VERSIONS)


@pytest.fixture(autouse=True)
def _no_nvcc(monkeypatch):
    """Frames are prepared on the CPU, except where a test says otherwise."""
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


def random_batch(info, num, seed=0):
    shape = (num,) + tuple(info.input_shape)
    return np.random.RandomState(seed).uniform(0, 1, shape).astype(np.float32)


def assert_one_line(error, *words):
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("integrated", [False, True])
def test_every_generation_answers_as_the_model_and_gives_everything_back(
    detector, monkeypatch, version, integrated
):
    cuda = make_pycuda(integrated=integrated)
    use_device(monkeypatch, version, cuda=cuda)
    assert build(["--model", str(detector), "--precision", "fp32", "--batch", "2"]) == 0
    batch = random_batch(tiny_models.detector_info(), 5)
    with open_engine(detector, runtime="tensorrt") as engine:
        outputs = engine.infer(batch)
        assert engine.infer(batch[:0])["output_cov/Sigmoid"].shape == (0, 1, 6, 10)
        info = engine.info()
    for name, value in tiny_models.detect(batch).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)
    assert info["runtime"] == "tensorrt"
    assert info["version"] == VERSIONS[version]
    assert info["device"] == "Recorded GPU (SM 8.7)"
    json.dumps(info)
    ledger = cuda.ledger
    assert (ledger.allocations, ledger.retained, ledger.current) == (0, 0, [])


@pytest.mark.parametrize("api", ["bindings", "named"])
def test_8_5_runs_either_way(detector, monkeypatch, api):
    from deploy.tensorrt_network import TensorRtNetwork

    libraries = use_device(monkeypatch, "8.5")
    assert build(["--model", str(detector), "--precision", "fp16"]) == 0
    plan = (engine_folder(detector, "fp16") / ENGINE_NAME).read_bytes()
    network = TensorRtNetwork(libraries, plan, read_model_json(detector), api=api)
    batch = random_batch(tiny_models.detector_info(), 1)
    outputs = network.infer(batch)
    network.close()
    network.close()
    for name, value in tiny_models.detect(batch).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)


def test_two_batches_are_under_way_and_keep_their_own_answers(detector, monkeypatch):
    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    info = read_model_json(detector)
    network, _ = open_network(detector, info, "auto")
    batches = [random_batch(info, 1, seed) for seed in range(2)]
    tickets = [network.submit(batch) for batch in batches]
    with pytest.raises(ValueError, match="2 batches are under way"):
        network.submit(batches[0])
    found = [network.collect(ticket) for ticket in reversed(tickets)][::-1]
    network.close()
    for batch, outputs in zip(batches, found):
        expected = tiny_models.detect(batch)["output_cov/Sigmoid"]
        np.testing.assert_allclose(outputs["output_cov/Sigmoid"], expected, atol=1e-5)


def test_submitted_batch_over_the_profile_names_the_rebuild(detector, monkeypatch):
    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32", "--batch", "2"]) == 0
    info = read_model_json(detector)
    network, _ = open_network(detector, info, "auto")
    with pytest.raises(DeployError) as error:
        network.submit(random_batch(info, 3))
    network.close()
    assert_one_line(error, "batch 3 is over the engine's profile (1 to 2)", "--batch 3")


def test_auto_takes_a_built_engine_and_only_that(detector, monkeypatch):
    use_device(monkeypatch)
    monkeypatch.setattr(engine_module, "installed_runtimes", lambda: ["tensorrt", "onnxruntime"])
    assert not engine_module._is_for_tensorrt(detector, "auto", "auto")
    assert build(["--model", str(detector), "--precision", "fp16"]) == 0
    with open_engine(detector) as engine:
        assert (engine.plan.runtime, engine.plan.precision) == ("tensorrt", "fp16")
    assert build(["--model", str(detector), "--precision", "int8"]) == 0
    with open_engine(detector) as engine:
        assert engine.plan.precision == "int8"
    with open_engine(detector, precision="fp16") as engine:
        assert engine.plan.precision == "fp16"


def change_record(folder, **changes):
    path = folder / RECORD_NAME
    document = dict(json.loads(path.read_text()), **changes)
    path.write_text(json.dumps(document))


def damage(folder, where):
    path = folder / where
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: change_record(f, tensorrt="8.2.1.9"), ["TensorRT 8.2.1.9", "has 8.5.3.1"]),
        (lambda f: change_record(f, gpu="Orin"), ["was built for Orin (SM 8.7)", "Recorded GPU"]),
        (lambda f: change_record(f, sm="7.2"), ["SM 7.2", "SM 8.7"]),
        (lambda f: change_record(f, onnx_sha256="0" * 64), ["another detector.onnx"]),
        (lambda f: change_record(f, calibration_sha256="0" * 64), ["another calibration_qat.bin"]),
        (lambda f: change_record(f, schema=9), ["schema is 9"]),
        (lambda f: damage(f, RECORD_NAME), ["cannot be read"]),
        (lambda f: damage(f, ENGINE_NAME), ["damaged"]),
    ],
    ids=["version", "gpu", "sm", "model", "cache", "schema", "engine.json", "truncated"],
)
def test_engine_that_does_not_fit_is_one_line_with_the_rebuild_command(
    detector, monkeypatch, spoil, words
):
    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    spoil(engine_folder(detector, "fp32"))
    with pytest.raises(DeployError) as error, open_engine(detector, runtime="tensorrt"):
        raise AssertionError("it must not open")
    assert_one_line(error, "python3 -m deploy.build --model " + str(detector), *words)


def test_truncated_engine_with_a_matching_hash_ends_with_tensorrts_words(detector, monkeypatch):
    from deploy.core.model_json import hash_file

    cuda = make_pycuda()
    use_device(monkeypatch, cuda=cuda)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    folder = engine_folder(detector, "fp32")
    damage(folder, ENGINE_NAME)
    change_record(folder, engine_sha256=hash_file(folder / ENGINE_NAME))
    with pytest.raises(DeployError) as error, open_engine(detector, runtime="tensorrt"):
        raise AssertionError("it must not open")
    assert_one_line(error, "Magic tag does not match", "rebuild it: python3 -m deploy.build")
    assert (cuda.ledger.allocations, cuda.ledger.retained) == (0, 0)


def test_engine_that_was_never_built_names_the_command(detector, monkeypatch):
    use_device(monkeypatch)
    engine = open_engine(detector, runtime="tensorrt", precision="fp16")
    with pytest.raises(DeployError) as error, engine:
        raise AssertionError("it must not open")
    assert_one_line(error, "no fp16 engine", "--precision fp16", "--build")


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (make_pycuda(num_devices=0), ["no NVIDIA GPU", "CUDA counts 0", "--runtime onnxruntime"]),
        (make_pycuda(fault="cuInit failed: unknown error"), ["no NVIDIA GPU", "cuInit failed"]),
    ],
    ids=["none", "no driver"],
)
def test_no_gpu_is_one_line(detector, monkeypatch, capsys, cuda, words):
    use_device(monkeypatch, cuda=cuda)
    assert build(["--model", str(detector)]) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith("error: ")
    assert all(word in printed for word in words)


@pytest.mark.parametrize("scarce", ["buffers", "context"])
def test_no_memory_says_how_much_was_needed(detector, monkeypatch, scarce):
    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    cuda = make_pycuda()
    trt = make_tensorrt("8.5", memory_fails=scarce == "context")
    if scarce == "buffers":
        cuda.ledger.limit = 100000
    use_device(monkeypatch, trt=trt, cuda=cuda)
    with pytest.raises(DeployError) as error, open_engine(detector, runtime="tensorrt"):
        raise AssertionError("it must not open")
    needed = "needs 300 MB" if scarce == "context" else "needs 1 MB"
    assert_one_line(error, "not enough GPU memory", needed, "MB are free")
    assert (cuda.ledger.allocations, cuda.ledger.retained) == (0, 0)


def test_times_on_the_gpu_are_those_of_the_asked_number_of_runs(detector, monkeypatch):
    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    with open_engine(detector, runtime="tensorrt") as engine:
        times = engine.time_gpu(batch=1, warm_up=2, repeats=5)
    assert {name: len(values) for name, values in times.items()} == {
        "gpu": 5,
        "gpu_copies": 5,
        "wall": 5,
    }
    assert all(g <= c <= w for g, c, w in zip(times["gpu"], times["gpu_copies"], times["wall"]))


def test_benchmark_has_gpu_times_and_the_boards_state(detector, monkeypatch, capsys):
    from deploy.benchmark import main as benchmark

    use_device(monkeypatch)
    assert build(["--model", str(detector), "--precision", "fp32"]) == 0
    words = ["--detector", str(detector), "--no-gesture", "--runtime", "tensorrt"]
    assert benchmark(words + ["--frames", "3", "--warm-up", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["gpu"]["detector"]) == {"gpu", "gpu_copies", "wall"}
    assert document["gpu"]["detector"]["gpu"]["samples"] == 3
    assert set(document["board"]) == {"before", "after"}
    assert document["engines"]["detector"]["runtime"] == "tensorrt"


def test_missing_libraries_say_how_to_install_them(monkeypatch):
    monkeypatch.setattr("deploy.engine_tensorrt._LOADED", {})
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(DeployError) as error:
        load_libraries()
    assert_one_line(error, "tensorrt cannot be imported", "apt install python3-libnvinfer")
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", make_tensorrt("8.5"))
    monkeypatch.setitem(__import__("sys").modules, "pycuda", None)
    with pytest.raises(DeployError) as error:
        load_libraries()
    assert_one_line(error, "pycuda cannot be imported", "-m pip install pycuda", "CPATH=")


@pytest.mark.parametrize(
    ("python", "package"),
    [((3, 6, 9), "pycuda==2022.1"), ((3, 8, 10), "pycuda"), ((3, 12), "pycuda")],
)
def test_pycuda_is_named_for_the_python_of_each_jetpack(python, package):
    assert pycuda_hint(python).endswith("-m pip install " + package)
