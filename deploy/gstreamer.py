"""GStreamer pipelines for OpenCV: a Jetson's CSI camera and its video decoder.

The camera is read by nvarguscamerasrc, H.264 and H.265 are decoded by nvv4l2decoder, and nvvidconv
turns the picture; only the last step, BGRx to BGR, is the processor's. OpenCV takes them where it
was built with GStreamer: JetPack's own and Debian's are, pip's is not.
Source: NVIDIA, Jetson Linux Developer Guide, "Accelerated GStreamer" (elements, flip-method).
"""

import enum
import os
import re
from typing import Any, NamedTuple, Optional, Tuple

import cv2

from deploy.core.errors import DeployError

LIVE_SINK = "appsink drop=true max-buffers=1 sync=false"
FILE_SINK = "appsink sync=false"
# A Jetson's decoder is there where this device file is (nvhost-nvdec: JetPack 4 and 5).
DECODER_DEVICES = ("/dev/nvhost-nvdec", "/dev/v4l2-nvdec")
DEFAULT_CSI_WH = (1280, 720)
DEFAULT_CSI_FPS = 30.0


class Flip(enum.Enum):
    """How the picture is turned; the value is what --flip takes."""

    NONE = "none"
    COUNTERCLOCKWISE = "counterclockwise"
    ROTATE_180 = "rotate-180"
    CLOCKWISE = "clockwise"
    HORIZONTAL = "horizontal"
    VERTICAL = "vertical"


# nvvidconv's flip-method: 0 none, 1 counterclockwise, 2 rotate-180, 3 clockwise,
# 4 horizontal-flip, 5 upper-right-diagonal, 6 vertical-flip, 7 upper-left-diagonal.
_FLIP_METHOD = {
    Flip.NONE: 0,
    Flip.COUNTERCLOCKWISE: 1,
    Flip.ROTATE_180: 2,
    Flip.CLOCKWISE: 3,
    Flip.HORIZONTAL: 4,
    Flip.VERTICAL: 6,
}
_CV2_FLIP = {Flip.HORIZONTAL: 1, Flip.VERTICAL: 0, Flip.ROTATE_180: -1}
_CV2_ROTATE = {
    Flip.CLOCKWISE: cv2.ROTATE_90_CLOCKWISE,
    Flip.COUNTERCLOCKWISE: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


class CameraOptions(NamedTuple):
    """What a camera is asked for; None is the camera's own choice. It may give something else."""

    size_wh: Optional[Tuple[int, int]] = None
    fps: Optional[float] = None
    flip: Flip = Flip.NONE


def parse_size(text: str) -> Tuple[int, int]:
    """Read "1280x720". Raises ValueError."""
    match = re.match(r"^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})$", text)
    if match is None:
        raise ValueError(f"{text!r} is no size, expected WIDTHxHEIGHT such as 1280x720")
    return int(match.group(1)), int(match.group(2))


def csi_pipeline(sensor: int, options: CameraOptions) -> str:
    """Return the pipeline of CSI camera number `sensor`, turned by the device."""
    width, height = options.size_wh or DEFAULT_CSI_WH
    fps = round(1000 * (options.fps or DEFAULT_CSI_FPS))
    return " ! ".join(
        (
            f"nvarguscamerasrc sensor-id={sensor}",
            f"video/x-raw(memory:NVMM), width={width}, height={height}, format=NV12, "
            f"framerate={fps}/1000",
            f"nvvidconv flip-method={_FLIP_METHOD[options.flip]}",
            _BGR,
            LIVE_SINK,
        )
    )


def rtsp_pipeline(uri: str, *, latency_ms: int = 200) -> str:
    """Return the pipeline of a network camera, decoded by the device, H.264 or H.265 alike."""
    _check_quotable(uri)
    source = f'rtspsrc location="{uri}" latency={latency_ms} drop-on-latency=true'
    return " ! ".join((source, "decodebin", "nvvidconv", _BGR, LIVE_SINK))


def file_pipeline(path: str) -> str:
    """Return the pipeline of a video file, decoded by the device."""
    _check_quotable(path)
    return " ! ".join((f'filesrc location="{path}"', "decodebin", "nvvidconv", _BGR, FILE_SINK))


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer."""
    return re.search(r"^\s*GStreamer:\s*YES", cv2.getBuildInformation(), re.MULTILINE) is not None


def has_jetson_decoder() -> bool:
    """Whether this machine decodes with nvv4l2decoder."""
    return any(os.path.exists(path) for path in DECODER_DEVICES)


def require_gstreamer(uri: str) -> None:
    """Raise DeployError where OpenCV has none."""
    if not has_gstreamer():
        raise DeployError(
            f"{uri} needs an OpenCV with GStreamer, this {cv2.__version__} has none (pip's never "
            "has); take JetPack's: python3 -m venv --system-site-packages, and no opencv in it"
        )


def flip_image(image: Any, flip: Flip) -> Any:
    """Return a picture (H, W, 3) turned on the processor; the same one for Flip.NONE."""
    if flip in _CV2_ROTATE:
        return cv2.rotate(image, _CV2_ROTATE[flip])
    return cv2.flip(image, _CV2_FLIP[flip]) if flip in _CV2_FLIP else image


def _check_quotable(text: str) -> None:
    # A pipeline is a program: a name must not be able to end its quotes and add elements.
    if '"' in text or "\\" in text or "\n" in text:
        raise DeployError(f"{text!r}: quotes, backslashes and line ends cannot be in a source")


_BGR = "video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR"
