"""TensorRT 7.1 to 11 on an NVIDIA GPU or a Jetson's DLA, with memory through pycuda.

The only file that imports tensorrt and pycuda. `deploy.build` makes the engines; `open_network`
loads one after checking that it fits this device and this model.
"""

import sys
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.cuda_graph import open_driver
from deploy.tensorrt_device import acquire, release
from deploy.tensorrt_kernel import compile_kernel
from deploy.tensorrt_messages import make_logger
from deploy.tensorrt_network import Libraries, TensorRtNetwork
from deploy.tensorrt_record import (
    ENGINE_NAME,
    FOLDER,
    EngineRecord,
    check_record,
    find_engine,
    read_record,
    rebuild_command,
)

PATHS = (
    "PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include "
    "LIBRARY_PATH=/usr/local/cuda/lib64"
)


_LOADED: Dict[str, Libraries] = {}


def load_libraries() -> Libraries:
    """Import tensorrt and pycuda. Raises DeployError that says how to install what is missing."""
    if not _LOADED:
        try:
            import tensorrt as trt
        except ImportError as error:
            raise DeployError(
                f"tensorrt cannot be imported ({error}); {_tensorrt_hint()}"
            ) from None
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise DeployError(f"pycuda cannot be imported ({error}); {pycuda_hint()}") from None
        _LOADED["tensorrt"] = Libraries(trt, cuda, make_logger(trt), open_driver())
    return _LOADED["tensorrt"]


def pycuda_hint(version: Sequence[Any] = sys.version_info) -> str:
    """Return how to install pycuda for the Python of each JetPack: it comes as source alone."""
    # 2022.1 is the last for Python 3.6 (JetPack 4).
    package = "pycuda==2022.1" if tuple(version[:2]) < (3, 8) else "pycuda"
    return (
        f"it is compiled here, about 10 minutes: {PATHS} {sys.executable} -m pip install {package}"
    )


def open_network(
    model_dir: Path, model: ModelInfo, precision: str
) -> Tuple[TensorRtNetwork, EngineRecord]:
    """Load the built engine of a model folder; precision: "auto" or a word.

    Raises DeployError, one line with the command that mends it: no such engine, one of another
    TensorRT, GPU or model, a truncated one, no GPU, no memory.
    """
    folder = find_engine(model_dir, precision)
    if folder is None:
        kind, wanted = ("", "") if precision == "auto" else (f"{precision} ", precision)
        command = rebuild_command(model_dir) + (f" --precision {wanted}" if wanted else "")
        raise DeployError(
            f"{Path(model_dir) / FOLDER}: no {kind}engine; build it: {command}, or start with "
            "--build"
        )
    record = read_record(folder, model_dir)
    libraries = load_libraries()
    device = acquire(libraries.cuda)
    try:
        check_record(
            record,
            folder,
            Path(model_dir),
            model,
            tensorrt=str(libraries.trt.__version__),
            gpu=device.name,
            sm=device.sm,
        )
        kernel = compile_kernel(Path(model_dir) / FOLDER, device.sm)
        plan = (folder / ENGINE_NAME).read_bytes()
        try:
            network = TensorRtNetwork(libraries, plan, model, dla=record.dla, kernel=kernel)
        except DeployError as error:
            command = rebuild_command(model_dir, record)
            raise DeployError(f"{folder}: {error}; rebuild it: {command}") from None
    finally:
        release(device)
    return network, record


def _tensorrt_hint() -> str:
    return (
        "on a Jetson: sudo apt install python3-libnvinfer, and a virtual environment with "
        f"--system-site-packages; elsewhere: {sys.executable} -m pip install tensorrt"
    )
