"""TensorRT's calibration cache: the ranges of a network's tensors for implicit INT8.

Text. The first line is `TRT-<version>-EntropyCalibration2` with version = 1000 * major +
100 * minor + patch (10000 * major from TensorRT 10 on: NvInferRuntimeBase.h); then one
`tensor: hexadecimal` line per tensor, the big-endian digits of the float32 scale, without
leading zeros. scale = range / 127.
Source: NVIDIA TAO 5 export (nvidia_tao_tf1 core/_quantized.py); TensorRT 7 to 10 read it.
"""

import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from stages.detectnet.errors import DetectNetError

LEVELS = 127
_HEADER = re.compile(r"TRT-(\d+)-EntropyCalibration2")
_LINE = re.compile(r"(.+): ([0-9a-f]{1,8})")


class CalibrationCache(NamedTuple):
    """version: TensorRT's number, 8503 for 8.5.3; scales: size of one 8-bit step by tensor."""

    version: int
    scales: dict[str, float]


def tensorrt_number(version: str) -> int:
    """Turn "8.5.3" into 8503 and, as from TensorRT 10 on, "10.3.0" into 100300."""
    major, minor, patch = (int(part) for part in version.split("."))
    return major * (1000 if major < 10 else 10_000) + minor * 100 + patch


def format_cache(ranges: Mapping[str, float], *, version: int) -> str:
    """Write the cache's text; ranges: tensor name -> largest absolute value, finite and above 0.

    The order of `ranges` is kept. Raises ValueError for any other range.
    """
    lines = [f"TRT-{version}-EntropyCalibration2"]
    for name, largest in ranges.items():
        if not 0.0 < largest < float("inf"):
            raise ValueError(f"range of {name} is {largest}; expected a finite number above 0")
        (bits,) = struct.unpack(">I", struct.pack(">f", largest / LEVELS))
        lines.append(f"{name}: {bits:x}")
    return "\n".join(lines) + "\n"


def parse_cache(text: str, *, source: str) -> CalibrationCache:
    """Read a cache's text. Raises DetectNetError that names `source` and the line."""
    lines = text.splitlines()
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if not header:
        seen = lines[0] if lines else ""
        raise DetectNetError(
            f"{source}:1: {seen!r} is no calibration cache header, "
            "expected TRT-<version>-EntropyCalibration2; export again: dvc repro export"
        )
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        match = _LINE.fullmatch(line)
        if not match:
            raise DetectNetError(
                f"{source}:{number}: {line!r}, expected `tensor: hexadecimal float32`; "
                "export again: dvc repro export"
            )
        (scale,) = struct.unpack(">f", struct.pack(">I", int(match[2], 16)))
        scales[match[1]] = scale
    return CalibrationCache(int(header[1]), scales)
