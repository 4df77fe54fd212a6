"""The recorded TensorRT as packages that another Python process imports: a device's stand-in."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TENSORRT = """
import os, sys, time
from tests.deploy.recorded_tensorrt import make_tensorrt

module = make_tensorrt("8.5", fast_int8=os.environ.get("BOARD_HAS_INT8", "1") == "1")
build = module.Builder.build_serialized_network


def slow_build(builder, network, config):
    with open(os.environ["BUILD_LOG"], "a") as log:
        log.write("begun\\n")
    time.sleep(float(os.environ.get("BUILD_SECONDS", "0")))
    with open(os.environ["BUILD_LOG"], "a") as log:
        log.write("done\\n")
    return build(builder, network, config)


module.Builder.build_serialized_network = slow_build
module.__spec__ = __spec__
sys.modules[__name__] = module
"""
PYCUDA = """
import sys
from tests.deploy.recorded_pycuda import make_pycuda

sys.modules[__name__] = make_pycuda(name="Recorded Orin")
"""


def write_site(folder: Path) -> dict[str, str]:
    """Write the packages; return the environment in which Python finds them."""
    (folder / "pycuda").mkdir(parents=True)
    (folder / "tensorrt.py").write_text(TENSORRT)
    (folder / "pycuda" / "__init__.py").write_text("")
    (folder / "pycuda" / "driver.py").write_text(PYCUDA)
    return {
        "PYTHONPATH": f"{folder}:{ROOT}",
        "BUILD_LOG": str(folder / "builds.log"),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "CUDA_HOME": str(folder),
    }
