"""Open a model folder with the runtime that suits this machine: one interface for all of them.

    with open_engine("models/detector") as engine:
        outputs = engine.infer(batch)  # {"output_cov/Sigmoid": (B, 1, 12, 20), ...}

"auto" takes TensorRT where `deploy.build` has made an engine of the folder; else OpenVINO where it
is installed, and there the INT8 file if the folder has one; else ONNX Runtime, and there the FP32
file: its INT8 is slower than its FP32 for the signed activations that these files have (2 CPU
cores: ResNet18 960x544 186 against 188 ms, ResNet10 of width 16 at 320x192 4.8 against 2.1 ms; in
OpenVINO 17.7 and 0.6 ms).
"""

import contextlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.machine import available_cpus
from deploy.tensorrt_record import find_engine

LOGGER = logging.getLogger(__name__)

AUTO = "auto"
TENSORRT = "tensorrt"
CPU_RUNTIMES = ("openvino", "onnxruntime")
RUNTIMES = (TENSORRT,) + CPU_RUNTIMES
PRECISIONS = ("fp32", "fp16", "int8", "bf16")

# The role in model.json of the file that each precision reads.
FILE_ROLES = {"fp32": "fp32", "fp16": "fp32", "int8": "qdq", "bf16": "fp32"}
# Precisions that one runtime alone has; TensorRT's INT8 may also come from a calibration cache.
ONLY_IN = {"bf16": "openvino", "fp16": TENSORRT}

# Last onnxruntime with wheels (x86_64 and aarch64) for each Python (2026-11).
LAST_ONNXRUNTIME = {
    (3, 6): "1.10.0",
    (3, 7): "1.14.1",
    (3, 8): "1.19.2",
    (3, 9): "1.19.2",
    (3, 10): "1.23.2",
}


class Plan(NamedTuple):
    """Which runtime reads which file of a model folder, and why."""

    runtime: str
    precision: str
    file: str
    reason: str


class Engine:
    """A loaded network. Used from one thread at a time; `open_engine` opens and closes it.

    network: the runtime's own object, with `infer(batch)`, `version`, `device` and `close()`.
    """

    def __init__(self, network: Any, model: ModelInfo, plan: Plan, threads: int) -> None:
        self.model = model
        self.plan = plan
        self._network = network
        self._threads = threads

    def infer(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        """Run a batch (B, 3, H, W) float32; return each output (B, ...) float32 by tensor name.

        B may be any number, 0 included. Raises ValueError for another shape or type.
        """
        expected = self.model.input_shape
        if batch.ndim != 4 or batch.shape[1:] != expected or batch.dtype != np.float32:
            raise ValueError(
                f"batch is {batch.shape} {batch.dtype}; expected (B, {expected}) float32"
            )
        if len(batch) == 0:
            return {
                name: np.zeros((0,) + tuple(shape), np.float32)
                for name, shape in self.model.outputs.items()
            }
        return self._network.infer(np.ascontiguousarray(batch))

    @property
    def takes_frames(self) -> bool:
        """Whether the network makes its input of a frame itself, on the GPU: put_frame works."""
        return bool(getattr(self._network, "takes_frames", False))

    def lend_image(self, shape: Sequence[int]) -> Optional[np.ndarray]:
        """Return memory for a frame (H, W, 3) uint8 that the GPU reads without another copy.

        It is to be written once; it serves again when nobody holds it or a part of it any more.
        None when too many are held. Where takes_frames; any thread may call it.
        """
        return self._network.lend_image(tuple(shape))

    def upload(self, image: np.ndarray) -> np.ndarray:
        """Start to copy a frame to the GPU; return it where put_frame finds it, in lent memory.

        Where takes_frames; any thread may call it.
        """
        return self._network.upload(image)

    def put_frame(self, image: np.ndarray, regions: Optional[np.ndarray] = None) -> None:
        """Start with a frame (H, W, 3) uint8 BGR; run_frame then answers for it.

        Two frames may be under way; ValueError for a third one. regions: (N, 4), N > 0, to be cut
        out as crop_regions does; else the whole frame is the input.
        """
        self._network.put_frame(image, regions)

    def run_frame(self) -> Dict[str, np.ndarray]:
        """Return each output (N, ...) float32 for the oldest frame that put_frame took."""
        return self._network.run_frame()

    def made_input(self) -> np.ndarray:
        """Return the input (N, 3, H, W) that the GPU made of the oldest frame put."""
        return self._network.made_input()

    def time_gpu(self, *, batch: int, warm_up: int, repeats: int) -> Dict[str, List[float]]:
        """Return milliseconds on the GPU by CUDA events; nothing where there are none."""
        if not hasattr(self._network, "time_gpu"):
            return {}
        return self._network.time_gpu(batch=batch, warm_up=warm_up, repeats=repeats)

    def info(self) -> Dict[str, Any]:
        """Return runtime, version, precision, file, device and threads as plain values."""
        return {
            "runtime": self.plan.runtime,
            "version": self._network.version,
            "precision": self.plan.precision,
            "file": self.plan.file,
            "device": self._network.device,
            "threads": self._threads,
        }


@contextlib.contextmanager
def open_engine(
    model_dir: Union[str, Path],
    *,
    runtime: str = AUTO,
    precision: str = AUTO,
    threads: Optional[int] = None,
) -> Iterator[Engine]:
    """Load a model folder; the block gets the Engine.

    runtime: "auto", "tensorrt", "openvino" or "onnxruntime"; precision: "auto", "fp32", "fp16",
    "int8" or "bf16"; threads: by default as many as this process has processors.
    Raises DeployError, one line, for an unreadable folder or file, an encrypted model, a runtime
    that is not installed, a precision that the folder or the runtime does not have, and a TensorRT
    engine that does not fit this device or this model; ValueError for unknown words.
    """
    folder = Path(model_dir)
    model = read_model_json(folder)
    if _is_for_tensorrt(folder, runtime, precision):
        with _open_tensorrt(folder, model, precision) as engine:
            yield engine
        return
    _check_readable(folder, model)
    plan = plan_engine(model, runtime=runtime, precision=precision, installed=installed_runtimes())
    threads = threads or available_cpus()
    network = _load(folder / plan.file, model, plan, threads)
    level = logging.INFO if AUTO in (runtime, precision) else logging.DEBUG
    LOGGER.log(level, "%s: %s %s, %s", model.name, plan.runtime, plan.precision, plan.reason)
    try:
        yield Engine(network, model, plan, threads)
    finally:
        network.close()


def plan_engine(
    model: ModelInfo, *, runtime: str, precision: str, installed: Sequence[str]
) -> Plan:
    """Choose runtime, precision and file for a model, given the installed runtimes.

    Raises as open_engine does.
    """
    _check_word("runtime", runtime, RUNTIMES)
    _check_word("precision", precision, PRECISIONS)
    reasons = []
    if runtime == AUTO:
        runtime = _first_installed(installed)
        reasons.append(f"{runtime} is the first installed of {', '.join(CPU_RUNTIMES)}")
    elif runtime not in installed:
        raise DeployError(f"runtime {runtime} is not installed; {_install_hint(runtime)}")
    if precision == AUTO:
        precision, reason = _auto_precision(model, runtime)
        reasons.append(reason)
    _check_precision(model, runtime, precision)
    return Plan(
        runtime, precision, model.files[FILE_ROLES[precision]], "; ".join(reasons) or "as asked"
    )


def available_precisions(model: ModelInfo, runtime: str) -> Sequence[str]:
    """Return the precisions in which a runtime can run the files of a model."""
    known = [name for name in PRECISIONS if FILE_ROLES[name] in model.files]
    if runtime == TENSORRT and "calibration" in model.files and "int8" not in known:
        known.append("int8")
    return [name for name in known if ONLY_IN.get(name, runtime) == runtime]


def installed_runtimes() -> Sequence[str]:
    """Return the runtimes that this Python finds, best first, without importing them."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]


def _is_for_tensorrt(folder: Path, runtime: str, precision: str) -> bool:
    """Whether TensorRT is asked for or, under "auto", has a built engine of this precision."""
    _check_word("runtime", runtime, RUNTIMES)
    _check_word("precision", precision, PRECISIONS)
    if runtime != AUTO:
        return runtime == TENSORRT
    return TENSORRT in installed_runtimes() and find_engine(folder, precision) is not None


@contextlib.contextmanager
def _open_tensorrt(folder: Path, model: ModelInfo, precision: str) -> Iterator[Engine]:
    from deploy.engine_tensorrt import open_network

    network, record = open_network(folder, model, precision)
    plan = Plan(TENSORRT, record.precision, record.onnx, "built by deploy.build")
    level = logging.INFO if precision == AUTO else logging.DEBUG
    LOGGER.log(level, "%s: %s %s, %s", model.name, plan.runtime, plan.precision, plan.reason)
    try:
        yield Engine(network, model, plan, threads=0)
    finally:
        network.close()


def _first_installed(installed: Sequence[str]) -> str:
    for name in CPU_RUNTIMES:
        if name in installed:
            return name
    raise DeployError(
        f"no runtime is installed, expected one of {', '.join(CPU_RUNTIMES)}; "
        f"{_install_hint('onnxruntime')}"
    )


def _install_hint(runtime: str) -> str:
    version = LAST_ONNXRUNTIME.get(sys.version_info[:2])
    if runtime != "onnxruntime" or version is None:
        return f"run: {sys.executable} -m pip install {runtime}"
    python = "{}.{}".format(*sys.version_info[:2])
    return (
        f"run: {sys.executable} -m pip install {runtime}=={version} (its last for Python {python})"
    )


def _auto_precision(model: ModelInfo, runtime: str) -> Tuple[str, str]:
    if "qdq" not in model.files:
        return "fp32", "the folder has no INT8 file"
    if runtime == "openvino":
        return "int8", "the folder has an INT8 file"
    if "fp32" not in model.files:
        return "int8", "the folder has no FP32 file"
    return "fp32", "INT8 is slower than FP32 in ONNX Runtime for signed activations"


def _check_readable(folder: Path, model: ModelInfo) -> None:
    if model.is_encrypted:
        guide = folder / model.files.get("convert", model.files["etlt"])
        raise DeployError(
            f"model {model.name} is encrypted ({model.files['etlt']}), "
            f"{' and '.join(CPU_RUNTIMES)} cannot read it; {guide} has the converter's command "
            "for each JetPack, then: python3 -m deploy.build; hands without gestures: --no-gesture"
        )


def _check_precision(model: ModelInfo, runtime: str, precision: str) -> None:
    usable = available_precisions(model, runtime)
    if precision not in usable:
        raise DeployError(
            f"model {model.name} has no {precision} for {runtime}; "
            f"it has: {', '.join(usable) or 'none (export the model first)'}"
        )


def _check_word(name: str, value: str, known: Sequence[str]) -> None:
    if value != AUTO and value not in known:
        raise ValueError(f"{name} is {value!r}; known: {AUTO}, {', '.join(known)}")


def _load(path: Path, model: ModelInfo, plan: Plan, threads: int) -> Any:
    """Import the file of one runtime, and the runtime with it, only when it is chosen."""
    if plan.runtime == "openvino":
        from deploy.engine_openvino import OpenVinoNetwork

        return OpenVinoNetwork(path, model, bf16=plan.precision == "bf16", threads=threads)
    from deploy.engine_onnxruntime import OnnxRuntimeNetwork

    return OnnxRuntimeNetwork(path, model, threads=threads)
