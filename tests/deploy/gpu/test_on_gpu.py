"""Real TensorRT on a real GPU: python -m pytest -m gpu tests/deploy/gpu

Skipped without tensorrt, pycuda and onnx; benchmarks/tensorrt_gpu.py measures full-sized models.
"""

import numpy as np
import pytest

from deploy.build import main as build
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.core.preprocess import image_to_tensor, images_to_batch
from deploy.core.roi import crop_regions
from deploy.engine import open_engine
from deploy.reference import sample_frames
from deploy.tensorrt_record import ENGINE_NAME, engine_folder
from tests.deploy import tiny_models
from tests.deploy.recorded_tensorrt import VERSIONS, make_tensorrt, names_of
from tests.deploy.tensorrt_device import write_classifier, write_detector

pytestmark = pytest.mark.gpu
trt = pytest.importorskip("tensorrt")
pytest.importorskip("pycuda")
pytest.importorskip("onnx")

TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.05}


def test_recorded_module_of_this_version_has_its_names():
    version = ".".join(trt.__version__.split(".")[:2])
    if version not in VERSIONS:
        pytest.skip(f"no TensorRT {version} is recorded")
    assert names_of(make_tensorrt(version)) == names_of(trt)


@pytest.fixture
def detector(tmp_path):
    return write_detector(tmp_path / "detector")


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

    classifier = write_classifier(tmp_path / "classifier")
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
