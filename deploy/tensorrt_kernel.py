"""The CUDA kernel that makes network inputs of a frame: compiled once, kept beside the engine.

The source in deploy/cuda_preprocess.py is compiled by nvcc for the GPU at hand, to a .cubin in
MODEL/tensorrt/; its name has the SM and the source's hash, so that a newer deploy/ compiles its
own. Without nvcc the frames are prepared on the CPU.
"""

import hashlib
import logging
import math
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from deploy.core.preprocess import Preprocess, place_image
from deploy.core.roi import EDGE_TOLERANCE
from deploy.cuda_preprocess import FUNCTION, SIGNATURE, SOURCE

LOGGER = logging.getLogger(__name__)

BLOCK = (32, 8, 1)
TIMEOUT_S = 120
# Pixels beyond any frame; keeps edges within int32.
FARTHEST = 1e6

Rectangle = Tuple[int, int, int, int]


def kernel_path(folder: Path, sm: str) -> Path:
    """Return where the compiled kernel for an SM ("8.7") lies."""
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()[:8]
    return folder / "preprocess_sm{}_{}.cubin".format(sm.replace(".", ""), digest)


def find_nvcc() -> Optional[str]:
    """Return nvcc's path: on PATH, in CUDA_HOME, or where JetPack puts it."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    places = [str(Path(home) / "bin" / "nvcc") for home in homes if home]
    return shutil.which("nvcc") or next((p for p in places if os.access(p, os.X_OK)), None)


def compile_kernel(folder: Path, sm: str) -> Optional[Path]:
    """Compile the kernel into `folder`, or return the one there; None, and a warning, if nvcc
    fails or is not there."""
    path = kernel_path(folder, sm)
    if path.is_file():
        return path
    nvcc = find_nvcc()
    if nvcc is None:
        LOGGER.warning(
            "nvcc is not there, frames are prepared on the CPU; on a Jetson: "
            "sudo apt install cuda-toolkit, and PATH=/usr/local/cuda/bin:$PATH"
        )
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(folder)) as aside:
        cubin = Path(aside) / path.name
        source = cubin.with_suffix(".cu")
        source.write_text(SOURCE, encoding="utf-8")
        fault = _run(compile_command(nvcc, source, cubin, sm))
        if fault:
            LOGGER.warning("nvcc: %s; frames are prepared on the CPU", fault)
            return None
        os.replace(str(cubin), str(path))
    return path


def compile_command(nvcc: str, source: Path, cubin: Path, sm: str) -> List[str]:
    """Return the command line of the compiler."""
    architecture = "-arch=sm_" + sm.replace(".", "")
    return [nvcc, "-cubin", "-O3", architecture, "-o", str(cubin), str(source)]


def region_rectangles(regions: np.ndarray) -> List[Rectangle]:
    """Return left, top, width and height of regions (N, 4): the whole pixels that crop_regions
    cuts.

    A region that is empty or NaN has width and height 0.
    """
    return [_rectangle(*edges) for edges in regions.tolist()]


def _rectangle(left: float, top: float, right: float, bottom: float) -> Rectangle:
    """One region's; plain Python, which for the few hands of a frame is quicker than NumPy."""
    # Nearly all regions are like this, and comparisons alone are quick.
    if not (-FARTHEST < left <= right < FARTHEST and -FARTHEST < top <= bottom < FARTHEST):
        edges = (left, top, right, bottom)
        if not all(map(math.isfinite, edges)):
            return 0, 0, 0, 0
        left, top, right, bottom = (min(max(edge, -FARTHEST), FARTHEST) for edge in edges)
    left, top = math.floor(left + EDGE_TOLERANCE), math.floor(top + EDGE_TOLERANCE)
    width = max(math.ceil(right - EDGE_TOLERANCE) - left, 0)
    height = max(math.ceil(bottom - EDGE_TOLERANCE) - top, 0)
    return left, top, width, height


class Kernel:
    """The loaded kernel, for networks of one input size and one way to feed them."""

    def __init__(
        self, cuda: Any, path: Path, input_wh: Tuple[int, int], preprocess: Preprocess
    ) -> None:
        """Load the compiled file; the context must be current. Raises pycuda's errors."""
        self._module = cuda.module_from_buffer(path.read_bytes())
        self._function = self._module.get_function(FUNCTION)
        self._function.prepare(SIGNATURE)
        self._input_wh, self._preprocess = input_wh, preprocess
        self._arguments: Dict[Tuple[Tuple[int, int], bool], Tuple[Any, ...]] = {}

    def launch(
        self,
        stream: Any,
        *,
        frame: int,
        frame_wh: Tuple[int, int],
        regions: int,
        count: int,
        out: int,
        is_crop: bool,
    ) -> None:
        """Fill out (count, 3, H, W) float32 from a frame; addresses are the device's.

        is_crop: regions are stretched to the input, as crop_regions does; else the one region, the
        whole frame, is placed as model.json says.
        """
        width, height = self._input_wh
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]), count)
        kept = self._arguments.get((frame_wh, is_crop))
        if kept is None:
            kept = self._arguments[frame_wh, is_crop] = kernel_arguments(
                frame=0,
                frame_wh=frame_wh,
                regions=0,
                out=0,
                input_wh=self._input_wh,
                preprocess=self._preprocess,
                is_crop=is_crop,
            )
        arguments = (frame,) + kept[1:3] + (regions, out) + kept[5:]
        self._function.prepared_async_call(grid, BLOCK, stream, *arguments)


def kernel_arguments(
    *,
    frame: int,
    frame_wh: Tuple[int, int],
    regions: int,
    out: int,
    input_wh: Tuple[int, int],
    preprocess: Preprocess,
    is_crop: bool,
) -> Tuple[Any, ...]:
    """Return the kernel's arguments in its order (SIGNATURE)."""
    place = place_image(frame_wh, input_wh, "stretch" if is_crop else preprocess.resize)
    return (
        (frame,)
        + frame_wh
        + (regions, out)
        + input_wh
        + place.corner_xy
        + place.size_wh
        + (preprocess.scale,)
        + tuple(preprocess.offset)
        + (int(preprocess.color == "rgb"),)
    )


def _run(command: Sequence[str]) -> str:
    """Run a compiler; return what went wrong, or nothing."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join(done.stdout.decode(errors="replace").split())
