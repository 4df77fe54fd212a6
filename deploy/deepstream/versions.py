"""The releases of DeepStream that are rendered for, and what differs between them.

Sources: NVIDIA's release notes and the config parsers of each release; README of
github.com/marcoslucianops/DeepStream-Yolo for the JetPack of each; NVIDIA-AI-IOT's
deepstream_python_apps for the bindings.
"""

from typing import NamedTuple, Tuple

from deploy.core.errors import DeployError

VersionNumber = Tuple[int, ...]


class DeepStream(NamedTuple):
    """One release: its JetPack, TensorRT, container image and Python bindings for probes."""

    version: str
    jetpack: str
    tensorrt: str
    container: str
    bindings: str

    @property
    def number(self) -> VersionNumber:
        """The version as integers, for comparisons."""
        return parse_number(self.version)


_L4T = "nvcr.io/nvidia/deepstream-l4t:"
_MULTI = "nvcr.io/nvidia/deepstream:"

RELEASES = (
    DeepStream("5.0", "4.4", "7.1", _L4T + "5.0.1-20.09-samples", "pyds"),
    DeepStream("5.1", "4.5", "7.1", _L4T + "5.1-21.02-samples", "pyds"),
    DeepStream("6.0", "4.6", "8.0", _L4T + "6.0.1-triton", "pyds"),
    DeepStream("6.1", "5.0.1 DP", "8.4", _L4T + "6.1-triton", "pyds"),
    DeepStream("6.1.1", "5.0.2", "8.4", _L4T + "6.1.1-triton", "pyds"),
    DeepStream("6.2", "5.1", "8.5", _L4T + "6.2-triton", "pyds"),
    DeepStream("6.3", "5.1.2", "8.5", _MULTI + "6.3-triton-multiarch", "pyds"),
    DeepStream("6.4", "6.0 DP", "8.6", _MULTI + "6.4-triton-multiarch", "pyds"),
    DeepStream("7.0", "6.0", "8.6", _MULTI + "7.0-triton-multiarch", "pyds"),
    DeepStream("7.1", "6.1", "10.3", _MULTI + "7.1-triton-multiarch", "pyds or pyservicemaker"),
    DeepStream("8.0", "7.0", "10.13", _MULTI + "8.0-triton-multiarch", "pyservicemaker"),
    DeepStream("9.0", "7.1", "10.13", _MULTI + "9.0-triton-multiarch", "pyservicemaker"),
    DeepStream("9.1", "7.2", "10.16", _MULTI + "9.1-triton-multiarch", "pyservicemaker"),
    DeepStream(
        "9.2",
        "7.2",
        "10.16",
        "ghcr.io/nvidia/deepstream:9.2-triton-multiarch",
        "pyservicemaker",
    ),
)


def find_release(version: str) -> DeepStream:
    """Return a release by its version. Raises DeployError, which lists the known ones."""
    for release in RELEASES:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in RELEASES)
    raise DeployError(f"DeepStream {version!r} is unknown; known: {known}")


def parse_number(version: str) -> VersionNumber:
    """Return "6.1.1" as (6, 1, 1)."""
    return tuple(int(part) for part in version.split("."))
