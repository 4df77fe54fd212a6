"""TensorRT's calibration cache on the device: read it, and name the tensors that it lacks.

Text: `TRT-8503-EntropyCalibration2`, then `tensor: hexadecimal float32` lines. The number in the
first line is that of the TensorRT that wrote the file; the ranges hold for any, so the builder
gets the file with its own number.
"""

import re
import struct
from pathlib import Path
from typing import Dict, Iterable, List

from deploy.core.errors import DeployError

HEADER = re.compile(r"TRT-\d+-EntropyCalibration2$")
LINE = re.compile(r"(.+): ([0-9a-f]{1,8})$")


def read_scales(path: Path) -> Dict[str, float]:
    """Return the size of one 8-bit step by tensor. Raises DeployError naming file and line."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: cannot be read: {error}; copy the model again") from None
    if not lines or not HEADER.match(lines[0]):
        raise DeployError(
            f"{path}:1: expected TRT-<version>-EntropyCalibration2; copy the model again"
        )
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        match = LINE.match(line)
        if match is None:
            raise DeployError(
                f"{path}:{number}: {line[:40]!r}, expected `tensor: hexadecimal float32`; copy "
                "the model again"
            )
        scales[match.group(1)] = struct.unpack(">f", bytes.fromhex(match.group(2).zfill(8)))[0]
    return scales


def cache_bytes(path: Path, version: str) -> bytes:
    """Return the file with the header of this TensorRT ("8.5.3.1" gives TRT-8503)."""
    lines = path.read_bytes().split(b"\n")
    lines[0] = f"TRT-{version_number(version)}-EntropyCalibration2".encode("ascii")
    return b"\n".join(lines)


def version_number(version: str) -> int:
    """Turn "8.5.3.1" into 8503 and, as from TensorRT 10 on, "10.3.0" into 100300."""
    major, minor, patch = (int(part) for part in (version.split(".") + ["0", "0"])[:3])
    return major * (1000 if major < 10 else 10000) + minor * 100 + patch


def missing_tensors(scales: Dict[str, float], needed: Iterable[str]) -> List[str]:
    """Return the needed tensors without a scale, in their order, each once."""
    return [name for name in dict.fromkeys(needed) if name not in scales]
