"""Real TensorRT on a real GPU: python -m pytest -m gpu tests/deploy/gpu

Skipped, with the reason, without tensorrt, pycuda and onnx (which writes the tiny models; ONNX
Runtime is not needed); those of frames without nvcc too. benchmarks/tensorrt_gpu.py measures
full-sized models. In a Python of its own for TensorRT 8.5 (3.9), beside tensorrt, pycuda, numpy
and OpenCV, these wheels do, without the project's other settings:

    pytest 8.3, iniconfig, packaging, pluggy, exceptiongroup, tomli, typing_extensions,
    onnx 1.16 (cp39), protobuf 4.25 (abi3)
    python -m pytest -c /dev/null --rootdir . -p no:cacheprovider -m gpu tests/deploy/gpu
"""

import contextlib
import json
import threading

import numpy as np
import pytest

from deploy.build import main as build
from deploy.core.errors import DeployError
from deploy.core.events import to_document
from deploy.core.model_json import read_model_json
from deploy.core.preprocess import image_to_tensor, images_to_batch
from deploy.core.roi import crop_regions
from deploy.engine import open_engine
from deploy.pipeline import Pipeline
from deploy.reference import sample_frames
from deploy.run import main as run
from deploy.source import open_source
from deploy.tensorrt_kernel import find_nvcc
from deploy.tensorrt_record import ENGINE_NAME, engine_folder
from tests.deploy import tiny_models
from tests.deploy.clips import write_clip
from tests.deploy.recorded_tensorrt import VERSIONS, make_tensorrt, names_of
from tests.deploy.tensorrt_device import write_classifier, write_detector

pytestmark = pytest.mark.gpu
trt = pytest.importorskip("tensorrt")
pytest.importorskip("pycuda")
pytest.importorskip("onnx", reason="onnx is not installed, which writes the tests' tiny models")

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.05}


def test_recorded_module_of_this_version_has_its_names():
    version = ".".join(trt.__version__.split(".")[:2])
    if version not in VERSIONS:
        pytest.skip(f"no TensorRT {version} is recorded")
    assert names_of(make_tensorrt(version)) == names_of(trt)


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector", as_onnx=True)


def random_batch(num):
    shape = (num,) + tiny_models.detector_info().input_shape
    return np.random.RandomState(0).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "quantization"),
    [("fp32", "auto"), ("fp16", "auto"), ("int8", "cache"), ("int8", "qdq")],
)
def test_engines_answer_as_the_model(detector, precision, quantization):
    words = ["--precision", precision, "--quantization", quantization, "--strict", "--unchecked"]
    assert build(["--model", str(detector), "--batch", "2"] + words) == 0
    batch = random_batch(5)
    with open_engine(detector, runtime="tensorrt", precision=precision) as engine:
        outputs = engine.infer(batch)
    for name, value in tiny_models.detect(batch).items():
        np.testing.assert_allclose(outputs[name], value, atol=TOLERANCE[precision])


@pytest.mark.parametrize(
    ("api", "feature"), [("bindings", "num_bindings"), ("named", "num_io_tensors")]
)
def test_each_api_that_this_tensorrt_has_answers_the_same(detector, api, feature):
    from deploy.engine_tensorrt import load_libraries
    from deploy.tensorrt_network import TensorRtNetwork

    if not hasattr(trt.ICudaEngine, feature):
        pytest.skip(f"TensorRT {trt.__version__} has no {feature}")
    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
    plan = (engine_folder(detector, "fp32") / ENGINE_NAME).read_bytes()
    network = TensorRtNetwork(load_libraries(), plan, read_model_json(detector), api=api)
    batch = random_batch(3)
    outputs = network.infer(batch)
    network.close()
    for name, value in tiny_models.detect(batch).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-4)


def open_counted(folder, *, batch, plain):
    """Build and open the detector; return it and what counts its graphs. plain: without any."""
    from deploy.engine_tensorrt import load_libraries
    from deploy.tensorrt_network import TensorRtNetwork

    libraries = load_libraries()
    assert libraries.graphs is not None, "a driver of CUDA 10.1 or later has graphs"
    place = engine_folder(folder, "fp32") / ENGINE_NAME
    if not place.is_file():
        words = ["--precision", "fp32", "--batch", str(batch), "--unchecked"]
        assert build(["--model", str(folder), *words]) == 0
    counted = None if plain else CountedGraphs(libraries.graphs)
    given = libraries._replace(graphs=counted)
    return TensorRtNetwork(given, place.read_bytes(), read_model_json(folder)), counted


@pytest.mark.parametrize("rows", [1, 2])
def test_replayed_runs_give_the_same_bits(detector, rows):
    batches = [random_batch(rows + 2)[n % 3 :][:rows] for n in range(24)]
    answers = []
    for plain in (True, False):
        network, graphs = open_counted(detector, batch=2, plain=plain)
        answers.append([network.infer(batch) for batch in batches])
        network.close()
    assert graphs.num_captured == 2, "one for each of two slots"
    for expected, replayed in zip(*answers):
        for name, value in expected.items():
            np.testing.assert_array_equal(replayed[name], value)


def test_rows_that_run_along_change_no_bit_and_keep_the_graphs(detector):
    """Compared with runs of the same shape, whose other rows are black: kernels may differ with
    the shape. On a Jetson every number of rows has its own shape and graphs."""
    from deploy.engine_tensorrt import load_libraries
    from deploy.tensorrt_device import acquire, release

    device = acquire(load_libraries().cuda)
    is_integrated = device.is_integrated
    release(device)
    sizes = [4] * 8 + [1] * 8 + [3, 1, 2, 4, 1, 2] + [2] * 8
    batches = [random_batch(rows + 2)[n % 3 :][:rows] for n, rows in enumerate(sizes)]
    network, _ = open_counted(detector, batch=4, plain=True)
    answers = []
    for batch in batches:
        shape = (len(batch) if is_integrated else 4,) + batch.shape[1:]
        filled = np.zeros(shape, np.float32)
        filled[: len(batch)] = batch
        answers.append({name: rows[: len(batch)] for name, rows in network.infer(filled).items()})
    network.close()
    network, graphs = open_counted(detector, batch=4, plain=False)
    for batch, expected in zip(batches, answers):
        outputs = network.infer(batch)
        for name, value in expected.items():
            np.testing.assert_array_equal(outputs[name], value)
        for name, value in tiny_models.detect(batch).items():
            np.testing.assert_allclose(outputs[name], value, atol=TOLERANCE["fp32"])
    network.close()
    assert graphs.num_captured == (6 if is_integrated else 2)


class CountedGraphs:
    """Counts what is recorded."""

    def __init__(self, graphs):
        self._graphs, self.num_captured = graphs, 0

    def capture(self, stream, work):
        self.num_captured += 1
        return self._graphs.capture(stream, work)


needs_nvcc = pytest.mark.skipif(
    find_nvcc() is None, reason="nvcc is not there, which compiles the kernel"
)


@needs_nvcc
def test_frames_and_regions_are_made_as_on_the_cpu(tmp_path, detector):
    """Within one level of 255 at p99, see tests/deploy/test_cuda_preprocess.py."""
    image = sample_frames(1)[0]
    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
    with open_engine(detector, runtime="tensorrt") as engine:
        assert engine.takes_frames
        engine.put_frame(image)
        seen = engine.made_input()
        engine.run_frame()
    expected = image_to_tensor(image, input_wh=(160, 96))
    assert np.percentile(np.abs(seen[0] - expected), 99) <= 1.001 / 255

    classifier = write_classifier(tmp_path / "classifier", as_onnx=True)
    assert build(["--model", str(classifier), "--precision", "fp32", "--unchecked"]) == 0
    regions = np.array([[100.2, 50.7, 400.1, 350.9], [-80, -60, 200, 220]], np.float32)
    with open_engine(classifier, runtime="tensorrt") as engine:
        engine.put_frame(image, regions)
        seen = engine.made_input()
        engine.run_frame()
    crops = list(crop_regions(image, regions, size_wh=(160, 160)))
    expected = images_to_batch(crops, input_wh=(160, 160))
    assert np.percentile(np.abs(seen - expected), 99) <= 1.001 / 255


def test_cut_engine_is_refused_in_tensorrts_words(detector):
    from deploy.engine_tensorrt import load_libraries
    from deploy.tensorrt_network import TensorRtNetwork

    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
    plan = (engine_folder(detector, "fp32") / ENGINE_NAME).read_bytes()
    with pytest.raises(DeployError, match="cannot load the engine"):
        TensorRtNetwork(load_libraries(), plan[: len(plan) // 2], read_model_json(detector))


def test_gpu_memory_is_given_back(detector):
    from deploy.engine_tensorrt import load_libraries
    from deploy.tensorrt_device import acquire, release

    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
    device = acquire(load_libraries().cuda)
    try:
        free = []
        for _ in range(5):
            with open_engine(detector, runtime="tensorrt") as engine:
                engine.infer(random_batch(1))
            with device.current():
                free.append(device.free_mb())
    finally:
        release(device)
    assert free[-1] >= free[1] - 8


@needs_nvcc
def test_lent_frames_go_up_on_another_thread_and_answer_as_arrays_do(detector):
    """Frames that somebody keeps never change, while others go through the same memory."""
    assert build(["--model", str(detector), "--precision", "fp32", "--unchecked"]) == 0
    frames = [tiny_models.draw_frame([("fist", 32 * n, 64)]) for n in range(12)]
    with open_engine(detector, runtime="tensorrt") as engine:
        alone = []
        for frame in frames:
            engine.put_frame(frame)
            alone.append(engine.run_frame())
        ready = []

        def decode():
            for frame in frames:
                image = engine.lend_image(frame.shape)
                assert image is not None
                image[:] = frame
                ready.append(engine.upload(image))

        thread = threading.Thread(target=decode)
        thread.start()
        thread.join(60)
        assert len(ready) == len(frames)
        engine.put_frame(ready[0])
        for index, expected in enumerate(alone):
            if index + 1 < len(ready):
                engine.put_frame(ready[index + 1])
            outputs = engine.run_frame()
            for name, value in expected.items():
                np.testing.assert_array_equal(outputs[name], value)
        for _ in range(20):
            other = engine.lend_image(frames[0].shape)
            if other is not None:
                other[:] = 255
                engine.upload(other)
        for image, frame in zip(ready, frames):
            np.testing.assert_array_equal(image, frame)
        del ready[:], image, other


@needs_nvcc
def test_program_looks_ahead_and_tells_what_frames_one_by_one_do(tmp_path, detector):
    classifier = write_classifier(tmp_path / "classifier", as_onnx=True)
    for folder in (detector, classifier):
        assert build(["--model", str(folder), "--precision", "fp32", "--unchecked"]) == 0
    hands = [[("fist" if n < 20 else "ok", 40 + 8 * n, 64)] for n in range(40)]
    clip = write_clip(tmp_path / "clip.mp4", hands)
    with contextlib.ExitStack() as stack:
        folders = (detector, classifier)
        engines = [stack.enter_context(open_engine(f, runtime="tensorrt")) for f in folders]
        source = stack.enter_context(open_source(clip))
        pipeline = Pipeline(*engines, source=clip)
        events = [e for frame in source.frames() for e in pipeline.process(frame).events]
        events += pipeline.finish()
    expected = [to_document(event) for event in events]
    for readers in (1, 3):
        out, stats = tmp_path / f"events_{readers}.jsonl", tmp_path / "stats.json"
        words = ["--source", clip, "--sink", str(out), "--sink", str(tmp_path / "pictures")]
        words += ["--runtime", "tensorrt", "--stats", str(stats), "--readers", str(readers)]
        assert run([*words, "--detector", str(detector), "--gesture", str(classifier)]) == 0
        told = [json.loads(line) for line in out.read_text().splitlines()]
        for document in told + expected:
            document.pop("latency_ms", None)
        assert told == expected
        assert {document["gesture"] for document in told} >= {"fist", "ok"}
        latency = json.loads(stats.read_text())["latency"]
        assert latency["upload"]["samples"] == len(hands)
        assert latency["period"]["samples"] == len(hands) - 1
