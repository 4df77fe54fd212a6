"""What this machine is: processor, graphics, runtimes; its fingerprint says where a choice holds.

Standard library only and without starting any runtime, so that it takes milliseconds.
"""

import hashlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List

# Instruction sets that decide which kernels a runtime picks; other flags come and go with kernels.
CPU_FLAGS = (
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "asimd",
    "asimddp",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_vnni",
    "avx512bw",
    "avx512f",
    "avx_vnni",
    "bf16",
    "f16c",
    "fma",
    "i8mm",
    "sse4_2",
    "sve",
)
RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime_gpu", "openvino", "tensorrt")


def describe_machine() -> Dict[str, Any]:
    """Return what a choice of runtime depends on, as plain JSON values."""
    cpuinfo = _read("/proc/cpuinfo")
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split())
    return {
        "architecture": platform.machine(),
        "cpu": _field(cpuinfo, "model name") or platform.processor(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cpus": available_cpus(),
        "board": _read("/proc/device-tree/model").strip("\0\n "),
        "gpus": _gpus(),
        "runtimes": runtime_versions(),
    }


def fingerprint(machine: Dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that are equal for equal descriptions."""
    text = json.dumps(machine, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def available_cpus() -> int:
    """Count the processors that this process may use: affinity and the control group's quota."""
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0] != "max":
        count = min(count or 1, -(-int(quota[0]) // int(quota[1])))
    return max(count or 1, 1)


def runtime_versions() -> Dict[str, str]:
    """Return versions of the installed runtimes by package, read off their metadata folders."""
    versions = {}
    for folder in reversed([Path(entry) for entry in sys.path if entry]):
        for metadata in sorted(folder.glob("*-info")) if folder.is_dir() else []:
            name, _, rest = metadata.name.lower().partition("-")
            if name in RUNTIME_PACKAGES:
                versions[name] = rest.rpartition(".")[0].partition("-")[0]
    return versions


def _gpus() -> List[str]:
    """Names of NVIDIA GPUs, from the driver's own listing."""
    places = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [_field(_read(str(place)), "Model") for place in places]


def _field(text: str, name: str) -> str:
    """Value of the first line `name : value`, or an empty text."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
