"""The builder against NVIDIA's own library of the newest API: tensorrt_rtx, which builds on a CPU.

Run by `make test-tensorrt-rtx` in an environment of its own; skipped where it is not installed.
"""

import types

import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.core.model_json import add_sha256, write_model_json
from deploy.tensorrt_builder import BuildRequest, build_plan_bytes, describe_capabilities
from deploy.tensorrt_messages import make_logger
from deploy.tensorrt_plan import plan_build
from tests.deploy import tiny_models
from tests.deploy.recorded_tensorrt import make_tensorrt, names_of

rtx = pytest.importorskip("tensorrt_rtx_bindings")
pytest.importorskip("onnx")

# In TensorRT-RTX alone the timing cache does nothing; its calls stay, and warn.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use Deprecated in TensorRT-RTX 1.2. Timing cache:DeprecationWarning"
)


@pytest.fixture(scope="module")
def logger():
    return make_logger(rtx)


@pytest.fixture
def trt():
    """The module, building for an Ada GPU: without a GPU it wants to be told for which."""
    module = types.ModuleType("tensorrt")
    module.__dict__.update(rtx.__dict__)

    class Builder:
        """Hands everything on; a subclass of a pybind11 class with __del__ warns when freed."""

        def __init__(self, logger):
            self._builder = rtx.Builder(logger)

        def __getattr__(self, name):
            return getattr(self._builder, name)

        def create_builder_config(self):
            config = self._builder.create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(rtx.ComputeCapability.SM89, 0)
            return config

    module.Builder = Builder
    return module


@pytest.fixture
def detector(tmp_path):
    folder = tiny_models.write_detector(tmp_path / "detector")
    info = tiny_models.detector_info()
    write_model_json(folder, add_sha256(folder, info))
    return folder, info


def request(path, **changes):
    values = BuildRequest(
        onnx=path, precision="fp32", quantization=None, calibration=None, profile=(1, 2, 4)
    )
    return values._replace(**changes)


def test_capabilities_are_those_of_tensorrt_11(logger):
    found = describe_capabilities(rtx, logger, gpu="Ada", sm="8.9")
    assert not found.has_precision_flags
    assert not found.has_calibration
    assert found.reads_qdq
    assert found.fast_int8
    assert found.dla_cores == 0
    plan = plan_build(found, tiny_models.detector_info())
    assert (plan.precision, plan.quantization, plan.file) == ("int8", "qdq", "detector_qdq.onnx")


def test_recorded_tensorrt_11_has_the_names_of_the_real_api():
    assert names_of(make_tensorrt("11.0")) == names_of(rtx)


@pytest.mark.parametrize(
    ("file", "precision", "quantization"),
    [("detector.onnx", "fp32", None), ("detector_qdq.onnx", "int8", "qdq")],
)
def test_engines_are_built(trt, logger, detector, tmp_path, file, precision, quantization):
    folder, info = detector
    wanted = request(
        folder / file,
        precision=precision,
        quantization=quantization,
        typed=True,
        timing_cache=tmp_path / "timing.cache",
    )
    built = build_plan_bytes(trt, logger, info, wanted)
    assert built.profile == (1, 2, 4)
    assert len(built.plan) > 1000


def test_file_of_fixed_batch_keeps_it(trt, logger, detector):
    import onnx

    folder, info = detector
    model = onnx.load(str(folder / "detector.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    path = folder / "fixed.onnx"
    onnx.save(model, str(path))
    assert build_plan_bytes(trt, logger, info, request(path)).profile == (3, 3, 3)


@pytest.mark.parametrize("length", [0, 100, -20])
def test_truncated_onnx_ends_with_the_parsers_own_words(trt, logger, detector, length):
    folder, info = detector
    path = folder / "cut.onnx"
    path.write_bytes((folder / "detector.onnx").read_bytes()[:length])
    with pytest.raises(DeployError) as error:
        build_plan_bytes(trt, logger, info, request(path))
    message = str(error.value)
    assert "\n" not in message
    assert "cannot read it" in message or "its tensors are" in message


def test_file_of_another_model_is_refused_by_its_tensors(trt, logger, detector):
    folder, _ = detector
    other = tiny_models.classifier_info()
    with pytest.raises(DeployError, match="its tensors are"):
        build_plan_bytes(trt, logger, other, request(folder / "detector.onnx"))


def test_senseless_profile_is_refused_in_tensorrts_words(trt, logger, detector):
    folder, info = detector
    with pytest.raises(DeployError) as error:
        build_plan_bytes(trt, logger, info, request(folder / "detector.onnx", profile=(4, 2, 1)))
    assert "refuses the batches (4, 2, 1)" in str(error.value)


def test_operator_that_it_does_not_know_is_named(trt, logger, detector):
    from onnx import TensorProto, helper, save

    folder, info = detector
    shape = ["batch"] + list(info.input_shape)
    value = helper.make_tensor_value_info(info.input_name, TensorProto.FLOAT, shape)
    nodes = [
        helper.make_node("NoSuchOperator", [info.input_name], [name]) for name in info.outputs
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"] + list(sizes))
        for name, sizes in info.outputs.items()
    ]
    graph = helper.make_graph(nodes, "g", [value], outputs)
    path = folder / "unknown.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    with pytest.raises(DeployError, match="NoSuchOperator"):
        build_plan_bytes(trt, logger, info, request(path))


def test_sample_frames_need_no_gpu(detector):
    from deploy.reference import sample_batch

    _, info = detector
    batch = sample_batch(info)
    assert batch.shape == (4, 3, 96, 160)
    assert np.isfinite(batch).all()
