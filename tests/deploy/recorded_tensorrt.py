"""A stand-in for tensorrt 7.1, 8.4, 8.5, 10.3 and 11.0, written from NVIDIA's documentation.

Each version has the names that it really has, and no others, so that code which asks for features
with hasattr meets what it would meet on a Jetson. An "engine" holds the model's file, and running
it runs the file (recorded_models.py).
"""

import base64
import ctypes
import json
import types

import numpy as np

from tests.deploy.recorded_graphs import do
from tests.deploy.recorded_models import read_tensors, run_file

MAGIC = b"recorded tensorrt "
VERSIONS = {
    "7.1": "7.1.3.0",
    "8.4": "8.4.1.5",
    "8.5": "8.5.3.1",
    "10.3": "10.3.0.26",
    "11.0": "11.0.0.1",
}


# Names by which the generations differ, and which the code asks for or uses. Module names stand
# under "". tests/deploy/gpu and test_tensorrt_rtx compare them with real libraries.
NAMES = {
    "": ("IInt8EntropyCalibrator2", "IQuantizeLayer", "MemoryPoolType", "TensorIOMode"),
    "BuilderFlag": ("FP16", "INT8", "TF32", "GPU_FALLBACK"),
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "Builder": (
        "build_engine",
        "build_serialized_network",
        "platform_has_fast_fp16",
        "platform_has_fast_int8",
        "num_DLA_cores",
    ),
    "IBuilderConfig": (
        "set_memory_pool_limit",
        "max_workspace_size",
        "set_calibration_profile",
        "create_timing_cache",
        "set_tactic_sources",
    ),
    "ICudaEngine": ("num_bindings", "get_profile_shape", "num_io_tensors", "get_tensor_name"),
    "IExecutionContext": (
        "set_binding_shape",
        "execute_async_v2",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ),
}


def names_of(trt):
    """Return which of NAMES a module has, as `Class.name`."""
    found = set()
    for kind, names in NAMES.items():
        place = getattr(trt, kind) if kind else trt
        found.update(f"{kind}.{name}" for name in names if hasattr(place, name))
    return found


class Member(int):
    """An enum's member as pybind11 has it: a number that prints its name."""

    def __new__(cls, number, text):
        member = int.__new__(cls, number)
        member.text = text
        return member

    def __str__(self):
        return self.text


def make_enum(name, words):
    """Return a namespace of numbered members."""
    members = {w: Member(n, f"{name}.{w}") for n, w in enumerate(words)}
    return types.SimpleNamespace(**members)


def make_tensorrt(version, *, fast_int8=True, dla_cores=0, spoil=None, memory_fails=False):
    """Return a module of a version, "8.5"; its `log` lists what the builder was told.

    spoil: changes each output array, as a wrong kernel would. memory_fails: no execution context.
    """
    number = tuple(int(part) for part in version.split("."))
    trt = types.ModuleType("tensorrt")
    trt.__version__ = VERSIONS[version]
    trt.log = []
    has_flags = number < (11,)
    trt.DataType = make_enum("DataType", ["FLOAT", "HALF"])
    trt.LayerType = make_enum("LayerType", ["CONVOLUTION", "ACTIVATION"])
    trt.DeviceType = make_enum("DeviceType", ["GPU", "DLA"])
    trt.BuilderFlag = make_enum(
        "BuilderFlag", (["FP16", "INT8"] if has_flags else []) + ["TF32", "GPU_FALLBACK"]
    )
    creation = (["EXPLICIT_BATCH"] if has_flags else []) + (
        ["STRONGLY_TYPED"] if number >= (9, 1) else []
    )
    trt.NetworkDefinitionCreationFlag = make_enum("NetworkDefinitionCreationFlag", creation)

    class ILogger:
        Severity = make_enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO"])

        def __init__(self):
            pass

    trt.ILogger = ILogger
    _add_parser(trt)
    _add_builders(trt, number, fast_int8=fast_int8, dla_cores=dla_cores)
    _add_engines(trt, spoil=spoil, memory_fails=memory_fails)
    if number >= (8, 0):
        trt.IQuantizeLayer = type("IQuantizeLayer", (), {})
    if number < (10,):
        _add_bindings(trt, trt.ICudaEngine, trt.IExecutionContext)
    if number >= (8, 5):
        _add_named_tensors(trt, trt.ICudaEngine, trt.IExecutionContext)
    name = "device_memory_size_v2" if number >= (10,) else "device_memory_size"
    setattr(trt.ICudaEngine, name, 300 << 20)
    return trt


def _add_parser(trt):
    """Networks, and the parser that fills them from a file."""

    class Network:
        def load(self, content):
            self.content = content
            given, outputs, rounded = read_tensors(content)
            self.inputs, self.outputs = [given], outputs
            self.num_inputs, self.num_outputs = 1, len(outputs)
            self.layers, self.num_layers = rounded, len(rounded)

        def get_input(self, index):
            return types.SimpleNamespace(name=self.inputs[index][0], shape=self.inputs[index][1])

        def get_output(self, index):
            return types.SimpleNamespace(name=self.outputs[index][0])

        def get_layer(self, index):
            tensor = types.SimpleNamespace(name=self.layers[index])
            return types.SimpleNamespace(
                type=trt.LayerType.CONVOLUTION, get_input=lambda number: tensor
            )

    class OnnxParser:
        num_errors = 0

        def __init__(self, network, logger):
            self._network = network

        def parse(self, content):
            try:
                self._network.load(content)
            except Exception:
                self.num_errors = 1
                return False
            return True

        def get_error(self, index):
            text = "Failed to parse ONNX model from buffer"
            return types.SimpleNamespace(node=lambda: 0, desc=lambda: text)

    trt.INetworkDefinition, trt.OnnxParser = Network, OnnxParser


def _add_builders(trt, number, *, fast_int8, dla_cores):
    """Builders, their configurations and profiles, as the version has them."""
    log = trt.log

    class Config:
        def __init__(self):
            self.profile = None

        def set_flag(self, flag):
            log.append(str(flag))

        def clear_flag(self, flag):
            log.append(f"no {flag}")

        def add_optimization_profile(self, profile):
            self.profile = profile.batches
            return 0 if profile.batches[0] <= profile.batches[2] else -1

    class Profile:
        def set_shape(self, name, *shapes):
            self.batches = [shape[0] for shape in shapes]

    class Builder:
        def __init__(self, logger):
            self._logger = logger

        def create_network(self, flags=0):
            log.append(f"network flags {flags}")
            return trt.INetworkDefinition()

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

    def compile_network(builder, network, config):
        calibrator = getattr(config, "int8_calibrator", None)
        if calibrator is not None:
            log.append(bytes(calibrator.read_calibration_cache()).split(b"\n")[0].decode())
        document = {
            "version": trt.__version__,
            "profile": config.profile,
            "file": base64.b64encode(network.content).decode(),
        }
        return MAGIC + json.dumps(document).encode()

    trt.Builder, trt.IBuilderConfig = Builder, Config
    _add_builder(trt, Builder, Config, compile_network, number, log)
    Builder.num_DLA_cores = dla_cores
    if number < (11,):
        Builder.platform_has_fast_fp16, Builder.platform_has_fast_int8 = True, fast_int8
        Config.set_calibration_profile = lambda self, profile: True
        trt.IInt8EntropyCalibrator2 = type(
            "IInt8EntropyCalibrator2", (), {"__init__": lambda self: None}
        )


def _add_engines(trt, *, spoil, memory_fails):
    """Engines, their contexts, and the runtime that loads them; trt.batches: what they ran."""
    trt.batches = []

    class Engine:
        def __init__(self, document):
            self.content = base64.b64decode(document["file"])
            given, outputs, _ = read_tensors(self.content)
            self.entries = [given] + outputs
            shape = given[1]
            self.profile = [(batch,) + shape[1:] for batch in document["profile"] or []]

        def create_execution_context(self):
            return None if memory_fails else ExecutionContext(self)

        def serialize(self):
            return self.plan

    class ExecutionContext:
        def __init__(self, engine):
            self.engine, self.shape, self.addresses = engine, None, {}

        def run(self):
            addresses, shape = dict(self.addresses), self.shape
            do(lambda: self.compute(addresses, shape))
            return True

        def compute(self, addresses, shape):
            batch = np.array(view(addresses[self.engine.entries[0][0]], shape))
            assert np.isfinite(batch).all(), "a row that nobody has filled"
            trt.batches.append(len(batch))
            for key, value in run_file(self.engine.content, batch).items():
                value = value if spoil is None else spoil(value)
                view(addresses[key], value.shape)[:] = value

        def fits(self, shape):
            if self.engine.profile and shape[0] > self.engine.profile[2][0]:
                return False
            self.shape = tuple(shape)
            return True

    class Runtime:
        def __init__(self, logger):
            self._logger = logger

        def deserialize_cuda_engine(self, plan):
            try:
                document = json.loads(bytes(plan)[len(MAGIC) :].decode())
            except ValueError:
                self._logger.log(trt.ILogger.Severity.ERROR, "Magic tag does not match")
                return None
            engine = Engine(document)
            engine.plan = bytes(plan)
            return engine

    trt.Runtime, trt.ICudaEngine, trt.IExecutionContext = Runtime, Engine, ExecutionContext


def view(address, shape):
    """Return the float32 array at an address."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


def _add_builder(trt, builder, config, compile_network, number, log):
    if number < (10,):

        def build_engine(self, network, config):
            plan = compile_network(self, network, config)
            return trt.Runtime(self._logger).deserialize_cuda_engine(plan)

        builder.build_engine = build_engine
        config.max_workspace_size = property(
            lambda self: 0,
            lambda self, size: log.append(f"max_workspace_size {size >> 20}"),
        )
    if number >= (8, 0):
        builder.build_serialized_network = compile_network
        config.create_timing_cache = lambda self, content: types.SimpleNamespace(content=content)

        def set_timing_cache(self, cache, ignore_mismatch):
            log.append(f"timing cache {len(cache.content)}")
            self.cache = cache
            return True

        config.set_timing_cache = set_timing_cache
        config.get_timing_cache = lambda self: types.SimpleNamespace(serialize=lambda: b"timings")
    if number >= (8, 4):
        trt.MemoryPoolType = make_enum("MemoryPoolType", ["WORKSPACE"])
        config.set_memory_pool_limit = lambda self, pool, size: log.append(f"{pool} {size >> 20}")
    if number >= (8, 0):
        # 8.4 brought the first of the two that need no other library, 8.5 the second.
        lean = ["EDGE_MASK_CONVOLUTIONS"] * (number >= (8, 4)) + ["JIT_CONVOLUTIONS"] * (
            number >= (8, 5)
        )
        other = ["CUBLAS", "CUBLAS_LT", "CUDNN"] * (number < (11,))
        trt.TacticSource = make_enum("TacticSource", other + lean)
        config.set_tactic_sources = lambda self, bits: log.append(f"tactics {bits}") is None


def _add_bindings(trt, engine, context):
    engine.num_bindings = property(lambda self: len(self.entries))
    engine.get_binding_name = lambda self, index: self.entries[index][0]
    engine.binding_is_input = lambda self, index: index == 0
    engine.get_binding_shape = lambda self, index: self.entries[index][1]
    engine.get_binding_dtype = lambda self, index: trt.DataType.FLOAT
    engine.get_profile_shape = lambda self, profile, binding: self.profile
    context.set_binding_shape = lambda self, index, shape: self.fits(shape)

    def execute_async_v2(self, bindings, stream_handle):
        assert stream_handle == 7
        self.addresses = dict(zip([name for name, _ in self.engine.entries], bindings))
        return self.run()

    context.execute_async_v2 = execute_async_v2


def _add_named_tensors(trt, engine, context):
    trt.TensorIOMode = make_enum("TensorIOMode", ["INPUT", "OUTPUT"])
    modes = trt.TensorIOMode
    engine.num_io_tensors = property(lambda self: len(self.entries))
    engine.get_tensor_name = lambda self, index: self.entries[index][0]
    engine.get_tensor_mode = lambda self, name: (
        modes.INPUT if name == self.entries[0][0] else modes.OUTPUT
    )
    engine.get_tensor_shape = lambda self, name: dict(self.entries)[name]
    engine.get_tensor_dtype = lambda self, name: trt.DataType.FLOAT
    engine.get_tensor_profile_shape = lambda self, name, profile: self.profile
    context.set_input_shape = lambda self, name, shape: self.fits(shape)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle):
        assert stream_handle == 7
        return self.run()

    context.set_tensor_address, context.execute_async_v3 = set_tensor_address, execute_async_v3
