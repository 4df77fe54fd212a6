"""The CUDA kernel, compiled for the CPU by g++: the same source, its threads one after another."""

import ctypes
import shutil
import subprocess

import pytest

from deploy.cuda_preprocess import FUNCTION, SIGNATURE, SOURCE

SHIM = """
#include <cmath>
#include <cstddef>
#define __global__
struct Place { int x, y, z; };
static Place blockIdx, blockDim, threadIdx;
"""
LOOP = """
extern "C" void launch(int gx, int gy, int gz, int bx, int by, {declared}) {{
    blockDim = {{bx, by, 1}};
    for (blockIdx.z = 0; blockIdx.z < gz; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x)
    for (threadIdx.y = 0; threadIdx.y < by; ++threadIdx.y)
    for (threadIdx.x = 0; threadIdx.x < bx; ++threadIdx.x)
        {function}({given});
}}
"""
C_TYPES = {"P": ctypes.c_void_p, "i": ctypes.c_int, "f": ctypes.c_float}
# The pointers' own types, in the kernel's order.
POINTERS = ("const unsigned char*", "const int*", "float*")


def compile_for_host(folder):
    """Return a function (grid, block, *kernel arguments); skips the test without g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on this machine")
    kinds, pointers = [], list(POINTERS)
    for code in SIGNATURE:
        kinds.append(pointers.pop(0) if code == "P" else {"i": "int", "f": "float"}[code])
    names = [f"a{index}" for index in range(len(kinds))]
    loop = LOOP.format(
        declared=", ".join(" ".join(pair) for pair in zip(kinds, names)),
        function=FUNCTION,
        given=", ".join(names),
    )
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    source.write_text(SHIM + SOURCE + loop, encoding="utf-8")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=120)
    launch = ctypes.CDLL(str(library)).launch
    launch.argtypes = [ctypes.c_int] * 5 + [C_TYPES[code] for code in SIGNATURE]
    launch.restype = None

    def run(grid, block, *arguments):
        launch(*(tuple(grid) + tuple(block)[:2] + arguments))

    return run


def write_cubin(command):
    """Stand in for nvcc (tensorrt_kernel._run): write a file; what runs is compile_for_host's."""
    with open(command[command.index("-o") + 1], "wb") as stream:
        stream.write(b"compiled")
    return ""
