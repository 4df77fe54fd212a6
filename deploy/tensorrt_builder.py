"""Build a TensorRT engine from an ONNX file with any TensorRT from 7.1 to 11.

The module `tensorrt` is handed in. What a version can do is asked with hasattr, never read off
its number. Nothing here needs CUDA's memory, so that tensorrt_rtx can run it without a GPU.
"""

import logging
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.tensorrt_cache import cache_bytes, missing_tensors, read_scales
from deploy.tensorrt_messages import check, create
from deploy.tensorrt_plan import CACHE, WITHOUT_INT8, Capabilities

LOGGER = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
SHOWN_TENSORS = 5
# Kernels that need neither cuDNN nor cuBLAS, which take several hundred MB on a Jetson.
LEAN_TACTICS = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
# Layers whose input is rounded: each needs a scale in the cache. FULLY_CONNECTED: up to 8.6.
ROUNDED_LAYERS = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED")


class BuildRequest(NamedTuple):
    """What to build. profile: smallest, best and largest batch; workspace_mb: scratch memory.

    typed: compute in the types of the file (always so in TensorRT 11); lean: leave out the kernels
    of cuDNN and cuBLAS where TensorRT can; timing_cache: a file that makes a second build faster.
    """

    onnx: Path
    precision: str
    quantization: Optional[str]
    calibration: Optional[Path]
    profile: Tuple[int, int, int]
    dla: Optional[int] = None
    workspace_mb: int = 1024
    typed: bool = False
    lean: bool = True
    timing_cache: Optional[Path] = None


class Built(NamedTuple):
    """An engine's bytes, and its profile (thrice the file's own batch where that is fixed)."""

    plan: bytes
    profile: Tuple[int, int, int]


def describe_capabilities(trt: Any, logger: Any, *, gpu: str, sm: str) -> Capabilities:
    """Return what this TensorRT can do on the GPU at hand."""
    builder = create(trt.Builder, logger)
    return Capabilities(
        version=str(trt.__version__),
        gpu=gpu,
        sm=sm,
        has_precision_flags=hasattr(trt.BuilderFlag, "FP16"),
        has_calibration=hasattr(trt, "IInt8EntropyCalibrator2"),
        reads_qdq=hasattr(trt, "IQuantizeLayer"),
        # Without the question (TensorRT 11) every GPU that it runs on has both but these.
        fast_fp16=bool(getattr(builder, "platform_has_fast_fp16", True)),
        fast_int8=bool(getattr(builder, "platform_has_fast_int8", sm not in WITHOUT_INT8)),
        dla_cores=int(getattr(builder, "num_DLA_cores", 0)),
    )


def build_plan_bytes(trt: Any, logger: Any, model: ModelInfo, request: BuildRequest) -> Built:
    """Build; raise DeployError, one line that ends with TensorRT's own words, when it fails."""
    builder = create(trt.Builder, logger)
    network = builder.create_network(_network_flags(trt, request))
    check(network, "create_network", logger)
    parser = create(trt.OnnxParser, network, logger)
    _parse(parser, request.onnx, trt, logger)
    _check_tensors(network, model, request.onnx)
    config = builder.create_builder_config()
    check(config, "create_builder_config", logger)
    _set_memory(trt, config, request.workspace_mb)
    _set_precision(trt, config, request)
    if request.dla is not None:
        _set_dla(trt, config, request.dla)
    profile = _add_profile(builder, network, config, model, request, logger)
    if request.lean:
        _set_tactics(trt, config)
    calibrator = None
    if request.quantization == CACHE:
        calibrator = _make_calibrator(trt, network, request)
        config.int8_calibrator = calibrator
    cache = _load_timing_cache(config, request.timing_cache)
    plan = _build(trt, builder, network, config, logger, request)
    _save_timing_cache(config, cache, request.timing_cache)
    return Built(plan, profile)


def _network_flags(trt: Any, request: BuildRequest) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    # Needed up to 9, ignored in 10, gone in 11.
    bits = 1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0
    if request.typed and hasattr(flags, "STRONGLY_TYPED"):
        bits |= 1 << int(flags.STRONGLY_TYPED)
    return bits


def _parse(parser: Any, path: Path, trt: Any, logger: Any) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeployError(f"{path}: cannot be read: {error.strerror}; copy it again") from None
    if parser.parse(content):
        return
    found = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f"node {error.node()}{_operator(error)}: {error.desc()}" for error in found]
    said = " | ".join(" ".join(text.split()) for text in texts) or logger.errors.take()
    raise DeployError(
        f"{path}: TensorRT {trt.__version__} cannot read it: {said}; copy the model again, or "
        "export it again"
    )


def _operator(error: Any) -> str:
    """Name of the node's operator, which the parser tells from 8.6 on."""
    return f" ({error.node_operator()})" if hasattr(error, "node_operator") else ""


def _check_tensors(network: Any, model: ModelInfo, path: Path) -> None:
    """The file must have the tensors of model.json (TAO's ONNX adds ":0" to the names)."""
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    outputs = [network.get_output(index).name for index in range(network.num_outputs)]
    bare = {name.split(":")[0] for name in outputs}
    if [name.split(":")[0] for name in inputs] != [model.input_name] or bare != set(model.outputs):
        raise DeployError(
            f"{path}: its tensors are {inputs} -> {outputs}, model.json says {model.input_name} "
            f"-> {sorted(model.outputs)}; export the model again"
        )


def _set_memory(trt: Any, config: Any, workspace_mb: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):  # 8.4 and later
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * MEBIBYTE)
    else:
        config.max_workspace_size = workspace_mb * MEBIBYTE


def _set_precision(trt: Any, config: Any, request: BuildRequest) -> None:
    flags = trt.BuilderFlag
    if request.precision == "fp32" and hasattr(flags, "TF32"):
        config.clear_flag(flags.TF32)  # has 10 bits of mantissa, so it is no FP32
    if request.typed or not hasattr(flags, "FP16"):
        return
    if request.precision in ("fp16", "int8"):
        config.set_flag(flags.FP16)
    if request.precision == "int8":
        config.set_flag(flags.INT8)


def _set_dla(trt: Any, config: Any, core: int) -> None:
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _add_profile(
    builder: Any,
    network: Any,
    config: Any,
    model: ModelInfo,
    request: BuildRequest,
    logger: Any,
) -> Tuple[int, int, int]:
    tensor = network.get_input(0)
    fixed = int(tuple(tensor.shape)[0])
    if fixed > 0:
        return fixed, fixed, fixed
    # A DLA takes one batch size only.
    batches = (request.profile[2],) * 3 if request.dla is not None else request.profile
    profile = check(builder.create_optimization_profile(), "create_optimization_profile", logger)
    profile.set_shape(tensor.name, *[(batch,) + tuple(model.input_shape) for batch in batches])
    if config.add_optimization_profile(profile) < 0:
        raise DeployError(
            f"TensorRT refuses the batches {batches} of {tensor.name}: {logger.errors.take()}"
        )
    if request.quantization == CACHE and hasattr(config, "set_calibration_profile"):
        check(config.set_calibration_profile(profile), "set_calibration_profile", logger)
    return batches


def _set_tactics(trt: Any, config: Any) -> None:
    known = getattr(trt, "TacticSource", None)
    if all(hasattr(known, name) for name in LEAN_TACTICS):  # 8.5 and later
        bits = sum(1 << int(getattr(known, name)) for name in LEAN_TACTICS)
        if not config.set_tactic_sources(bits):
            LOGGER.warning("TensorRT refuses the tactic sources %s", ", ".join(LEAN_TACTICS))


def _make_calibrator(trt: Any, network: Any, request: BuildRequest) -> Any:
    assert request.calibration is not None  # the plan names one for this quantization
    path = request.calibration
    scales = read_scales(path)
    missing = missing_tensors(scales, rounded_tensors(trt, network))
    if missing:
        shown = ", ".join(missing[:SHOWN_TENSORS])
        more = f" and {len(missing) - SHOWN_TENSORS} more" if len(missing) > SHOWN_TENSORS else ""
        raise DeployError(
            f"{path}: lacks the ranges of {len(missing)} tensors: {shown}{more}; copy the model "
            "again, or build --precision fp16"
        )
    content = cache_bytes(path, str(trt.__version__))

    class Cached(trt.IInt8EntropyCalibrator2):
        """Gives TensorRT the cache, and never data."""

        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            """Called by TensorRT."""
            return 1

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            """Called by TensorRT where the cache is not enough: there is no data."""
            return None

        def read_calibration_cache(self) -> bytes:
            """Called by TensorRT."""
            return content

        def write_calibration_cache(self, cache: Any) -> None:
            """Called by TensorRT; the model's own file stays as it is."""

    return Cached()


def rounded_tensors(trt: Any, network: Any) -> List[str]:
    """Return the names of the tensors that enter convolutions, in the network's order."""
    kinds = [getattr(trt.LayerType, name, None) for name in ROUNDED_LAYERS]
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    return [layer.get_input(0).name for layer in layers if layer.type in kinds]


def _load_timing_cache(config: Any, path: Optional[Path]) -> Any:
    if path is None or not hasattr(config, "create_timing_cache"):  # 8.0 and later
        return None
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        LOGGER.info("timing cache %s is of another TensorRT or GPU, a new one is begun", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _save_timing_cache(config: Any, cache: Any, path: Optional[Path]) -> None:
    if cache is None or path is None:
        return
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(bytes(config.get_timing_cache().serialize()))
    aside.replace(path)


def _build(
    trt: Any, builder: Any, network: Any, config: Any, logger: Any, request: BuildRequest
) -> bytes:
    if hasattr(builder, "build_serialized_network"):  # 8.0 and later
        plan = builder.build_serialized_network(network, config)
    else:
        engine = builder.build_engine(network, config)
        plan = None if engine is None else engine.serialize()
    if plan is None:
        raise DeployError(
            f"{request.onnx}: TensorRT {trt.__version__} built no {request.precision} engine "
            f"(workspace {request.workspace_mb} MB): {logger.errors.take()}; close other programs "
            "or use a smaller --workspace-mb where memory is short, --tactics all where no "
            "kernel was found"
        )
    return bytes(plan)
