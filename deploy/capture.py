"""What a source's URI names, and OpenCV's reader of it.

| URI | read by |
|---|---|
| 0, /dev/video0 | OpenCV (V4L2 on Linux) |
| csi://0 | a Jetson's camera, by GStreamer (deploy.gstreamer) |
| rtsp://host/path | FFmpeg; on a Jetson whose OpenCV has GStreamer its decoder |
| a file | likewise |
| gst:ELEMENT ! ... ! appsink | a GStreamer pipeline as it is, live |
"""

import enum
import logging
import re
import threading
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from deploy.core.errors import DeployError
from deploy.gstreamer import (
    CameraOptions,
    Flip,
    csi_pipeline,
    file_pipeline,
    has_gstreamer,
    has_jetson_decoder,
    require_gstreamer,
    rtsp_pipeline,
)

LOGGER = logging.getLogger(__name__)

KNOWN = (
    "a video file, a folder of images, a camera (0, /dev/video0 or csi://0), rtsp://... or "
    "gst:PIPELINE"
)
CSI = re.compile(r"^csi://(\d+)$")
GST = "gst:"
# How long FFmpeg waits for a network camera's next frame (its own limit is 30 s) before that
# counts as gone, and until one is opened: it looks at a second or two of the stream first.
READ_TIMEOUT_MS = 3000
OPEN_TIMEOUT_MS = 10000
# A camera that hangs must not keep the program from ending.
JOIN_TIMEOUT_S = 2.0
# USB cameras give large pictures at full rate as JPEG only.
MJPG = cv2.VideoWriter_fourcc(*"MJPG") if hasattr(cv2, "VideoWriter_fourcc") else 0x47504A4D


class SourceKind(enum.Enum):
    """What a URI names."""

    FILE = "file"
    FOLDER = "folder"
    CAMERA = "camera"
    CSI = "CSI camera"
    RTSP = "rtsp"
    GSTREAMER = "pipeline"


LIVE = (SourceKind.CAMERA, SourceKind.CSI, SourceKind.RTSP, SourceKind.GSTREAMER)
_HINTS = {
    SourceKind.FILE: "is it a whole video? convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
    SourceKind.CAMERA: "is it there and free? list cameras: ls /dev/video*",
    SourceKind.CSI: "is it there and free? try: gst-launch-1.0 nvarguscamerasrc ! fakesink, or "
    "sudo systemctl restart nvargus-daemon",
    SourceKind.RTSP: "is its address right and reachable from here?",
    SourceKind.GSTREAMER: "try it with gst-launch-1.0; it must end in appsink",
}


class Decoder(enum.Enum):
    """Who decodes files and network cameras; auto is a Jetson's own decoder where it is there."""

    AUTO = "auto"
    OPENCV = "opencv"
    JETSON = "jetson"


class Opened(NamedTuple):
    """An open or failed reader; flip: how its pictures have still to be turned."""

    capture: cv2.VideoCapture
    flip: Flip


class Picture(NamedTuple):
    """What a reader has decoded, still to be turned; started_s: perf_counter before that."""

    image: np.ndarray
    started_s: float


Lend = Callable[[Tuple[int, ...]], Optional[np.ndarray]]


class Reader:
    """An opened file, camera or stream, read by one thread at a time."""

    def __init__(self, open_: Callable[[], Opened]) -> None:
        """Open it by open_, perhaps in vain: see is_open."""
        self.num_grabbed = 0
        self._open = open_
        self._capture, self.flip = open_()
        self._shape: Optional[Tuple[int, ...]] = None  # the first frame tells it
        self._using = threading.Lock()

    def is_open(self) -> bool:
        """Whether it can be read."""
        return bool(self._capture.isOpened())

    def get(self, key: int) -> float:
        """Return a property of OpenCV's; any thread may ask."""
        with self._using:
            return float(self._capture.get(key))

    def read(self, lend: Optional[Lend] = None, *, skip: int = 0) -> Optional[Picture]:
        """Decode the next frame, `skip` others first; None when there are no more.

        It lies in the memory that `lend` gives if that is of its shape, else in OpenCV's own.
        """
        room = lend(self._shape) if lend is not None and self._shape is not None else None
        started_s = time.perf_counter()
        with self._using:
            for _ in range(skip):
                if not self._capture.grab():
                    return None
            is_read, image = self._capture.read() if room is None else self._capture.read(room)
            self.num_grabbed += skip + 1
        if not is_read:
            return None
        self._shape = image.shape
        return Picture(image, started_s)

    def reopen(self) -> bool:
        """Open it again; return whether it can be read."""
        with self._using:
            self._capture.release()
            self._capture, self.flip = self._open()
            return self.is_open()

    def close(self) -> None:
        """Free the device or file, unless a thread hangs in it: releasing it then crashes."""
        if self._using.acquire(timeout=JOIN_TIMEOUT_S):
            self._capture.release()
            self._using.release()


def source_kind(uri: str) -> SourceKind:
    """Say what a URI names. Raises DeployError for one that is not known or not there."""
    if camera_index(uri) is not None:
        return SourceKind.CAMERA
    if CSI.match(uri):
        return SourceKind.CSI
    if uri.startswith("rtsp://"):
        return SourceKind.RTSP
    if uri.startswith(GST):
        return SourceKind.GSTREAMER
    if "://" in uri:
        raise DeployError(f"source {uri} is not supported, expected {KNOWN}")
    if Path(uri).is_dir():
        return SourceKind.FOLDER
    if Path(uri).is_file():
        return SourceKind.FILE
    raise DeployError(f"source {uri} is not there, expected {KNOWN}")


def camera_index(uri: str) -> Optional[int]:
    """Return the number of a camera URI, None for anything else."""
    match = re.match(r"^(?:/dev/video)?(\d+)$", uri)
    return int(match.group(1)) if match else None


def open_capture(
    uri: str,
    kind: SourceKind,
    camera: CameraOptions = CameraOptions(),  # noqa: B008 (a NamedTuple cannot change)
    decoder: Decoder = Decoder.AUTO,
) -> Opened:
    """Return the reader of a URI, open or not. Raises DeployError where GStreamer is wanted."""
    if kind is SourceKind.CAMERA:
        return Opened(_open_camera(int(camera_index(uri) or 0), camera), camera.flip)
    if kind is SourceKind.CSI:
        sensor = int(CSI.match(uri).group(1))  # type: ignore[union-attr]
        return Opened(_open_pipeline(uri, csi_pipeline(sensor, camera)), Flip.NONE)
    if kind is SourceKind.GSTREAMER:
        return Opened(_open_pipeline(uri, uri[len(GST) :].strip()), camera.flip)
    if _takes_jetson_decoder(uri, decoder):
        pipeline = rtsp_pipeline(uri) if kind is SourceKind.RTSP else file_pipeline(uri)
        return Opened(_open_pipeline(uri, pipeline), camera.flip)
    if kind is SourceKind.RTSP:
        return Opened(_open_rtsp(uri), camera.flip)
    return Opened(cv2.VideoCapture(uri), camera.flip)


def takes_readers(uri: str, kind: SourceKind, decoder: Decoder) -> bool:
    """Whether several readers can share it: a file that OpenCV itself decodes. Raises DeployError
    where a Jetson's decoder is wanted and not there."""
    return kind is SourceKind.FILE and not _takes_jetson_decoder(uri, decoder)


def describe_failure(uri: str, kind: SourceKind) -> str:
    """Return why a reader that is not open may not be, in one line."""
    return f"{uri}: OpenCV {cv2.__version__} cannot open it; {_HINTS[kind]}"


def describe_emptiness(uri: str) -> str:
    """Return why a file may hold no frame, in one line."""
    return (
        f"{uri}: holds no frame that OpenCV {cv2.__version__} can decode; "
        f"{_HINTS[SourceKind.FILE]}"
    )


def _open_camera(index: int, camera: CameraOptions) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        return capture
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    if camera.size_wh is not None:
        capture.set(cv2.CAP_PROP_FOURCC, MJPG)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, camera.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, camera.size_wh[1])
        given = tuple(
            int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if given != camera.size_wh:
            LOGGER.warning("camera %d gives %dx%d, not %dx%d", index, *given, *camera.size_wh)
    if camera.fps is not None:
        capture.set(cv2.CAP_PROP_FPS, camera.fps)
    return capture


def _open_pipeline(uri: str, pipeline: str) -> cv2.VideoCapture:
    require_gstreamer(uri)
    return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)


def _open_rtsp(uri: str) -> cv2.VideoCapture:
    # OpenCV 4.5.2 brought the limits; before, FFmpeg's 30 s hold.
    if hasattr(cv2, "CAP_PROP_READ_TIMEOUT_MSEC"):
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            READ_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
    return cv2.VideoCapture(uri)


def _takes_jetson_decoder(uri: str, decoder: Decoder) -> bool:
    if decoder is Decoder.JETSON:
        require_gstreamer(uri)
        return True
    return decoder is Decoder.AUTO and has_jetson_decoder() and has_gstreamer()
