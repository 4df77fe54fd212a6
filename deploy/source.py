"""Where frames come from, as one URI.

| URI | source | time of a frame |
|---|---|---|
| clip.mp4 (any file that OpenCV decodes) | video | frame / rate of the file, in seconds |
| folder/ | its .jpg, .jpeg, .png and .bmp, by name | frame / rate (30 unless given) |
| 0 or /dev/video0 | camera | Unix time |
| rtsp://host/path | network camera | Unix time |
"""

import contextlib
import enum
import logging
import math
import os
import re
import threading
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Union

import cv2
import numpy as np

from deploy.channel import Channel
from deploy.core.errors import DeployError
from deploy.health import Health

LOGGER = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
KNOWN = "a video file, a folder of images, a camera (0 or /dev/video0) or rtsp://..."

# Frames decoded ahead: enough to even out slow ones, little memory (2.8 MB each at 1280x720).
READ_AHEAD = 4
# cv2.setLogLevel: 2 is errors, 3 warnings.
OPENCV_ERRORS = 2
# Waiting times between attempts to open a live source again: doubled from the first to the last.
BACKOFF_S = (0.5, 10.0)
# How long FFmpeg waits for a network camera (its own limit is 30 s) before that counts as gone.
NETWORK_TIMEOUT_MS = 3000
# A camera that hangs must not keep the program from ending.
JOIN_TIMEOUT_S = 2.0


class SourceKind(enum.Enum):
    """What a URI names."""

    FILE = "file"
    FOLDER = "folder"
    CAMERA = "camera"
    RTSP = "rtsp"


class Frame(NamedTuple):
    """One picture of a source.

    image: (H, W, 3) uint8 BGR, nobody writes into it; number: from 0; time_s: see the module;
    arrived_s: time.perf_counter() when it was decoded, which took decode_ms.
    """

    image: np.ndarray
    number: int
    time_s: float
    arrived_s: float
    decode_ms: float = 0.0


class VideoSource:
    """A file, camera or stream through OpenCV. `open_source` opens and closes it."""

    def __init__(
        self,
        uri: str,
        kind: SourceKind,
        *,
        fps: Optional[float] = None,
        health: Optional[Health] = None,
    ) -> None:
        """Open it. Raises DeployError when it does not open. fps: instead of what it says."""
        self.uri = uri
        self.is_live = kind in (SourceKind.CAMERA, SourceKind.RTSP)
        self._health = health or Health()
        self._stopped = threading.Event()
        self._capture = open_capture(uri)
        if not self._capture.isOpened():
            raise DeployError(f"{uri}: OpenCV {cv2.__version__} cannot open it; {_hint(kind)}")
        self.fps = fps or _sane_fps(self._capture.get(cv2.CAP_PROP_FPS), uri)
        self._reading = threading.Lock()
        # Times of a live source never run backwards, not even when the clock is set.
        self._epoch_s = time.time() - time.monotonic()

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order.

        A live source that gives none is opened again, with longer and longer waits, until `stop`;
        numbers go on. Raises DeployError when a file holds no frame.
        """
        number = 0
        while True:
            started = time.perf_counter()
            with self._reading:
                is_read, image = self._capture.read()
            if not is_read and self.is_live and self._reopen():
                continue
            if not is_read:
                break
            self._health.recover("source", f"{self.uri}: gives frames again")
            time_s = self._epoch_s + time.monotonic() if self.is_live else number / self.fps
            yield _frame(image, number, time_s, started)
            number += 1
        if not self.is_live:
            self._check_end(number)

    def stop(self) -> None:
        """End the frames of a live source that is being opened again."""
        self._stopped.set()

    def close(self) -> None:
        """Free the device or file, unless a thread hangs in it: releasing it then crashes."""
        if self._reading.acquire(timeout=JOIN_TIMEOUT_S):
            self._capture.release()
            self._reading.release()

    def _reopen(self) -> bool:
        """Open the source again, however long it takes; False when it is to stop."""
        wait_s, longest_s = BACKOFF_S
        while True:
            self._health.fault(
                "source", f"{self.uri}: no frames; is it connected? it is tried again and again"
            )
            if self._stopped.wait(wait_s):
                return False
            wait_s = min(2 * wait_s, longest_s)
            with self._reading:
                self._capture.release()
                self._capture = open_capture(self.uri)
                if self._capture.isOpened():
                    return True

    def _check_end(self, num_frames: int) -> None:
        if num_frames == 0:
            raise DeployError(
                f"{self.uri}: holds no frame that OpenCV {cv2.__version__} can decode; "
                f"{_hint(SourceKind.FILE)}"
            )
        expected = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if num_frames < expected:
            LOGGER.warning("%s: ended after %d of %d frames", self.uri, num_frames, expected)


class FolderSource:
    """Images of a folder, in the order of their names."""

    is_live = False

    def __init__(self, uri: str, *, fps: Optional[float] = None) -> None:
        """List the images. Raises DeployError when there is none."""
        self.uri = uri
        self.fps = fps or DEFAULT_FPS
        self._paths = list_images(Path(uri))
        if not self._paths:
            raise DeployError(f"{uri}: holds no image; expected {', '.join(IMAGE_SUFFIXES)} files")

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order. Raises DeployError that names an image it cannot read."""
        for number, path in enumerate(self._paths):
            started = time.perf_counter()
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise DeployError(f"{path}: cannot be read as an image; remove or replace it")
            yield _frame(image, number, number / self.fps, started)

    def stop(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


Source = Union[VideoSource, FolderSource]


@contextlib.contextmanager
def open_source(
    uri: str, *, fps: Optional[float] = None, health: Optional[Health] = None
) -> Iterator[Source]:
    """Open a source; the block gets it, closed afterwards.

    fps: frames per second of a folder, or instead of what a file says; health: takes the faults of
    a live one. Raises DeployError.
    """
    kind = source_kind(uri)
    source: Source
    if kind is SourceKind.FOLDER:
        source = FolderSource(uri, fps=fps)
    else:
        source = VideoSource(uri, kind, fps=fps, health=health)
    try:
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def read_ahead(source: Source, *, depth: int = READ_AHEAD) -> Iterator[Channel]:
    """Decode on a thread of its own; the block iterates over the frames.

    A live source drops its oldest waiting frame when nobody is ready, others wait. The iteration
    raises what the source raises.
    """
    channel = Channel(depth, drop_oldest=source.is_live)
    thread = threading.Thread(target=_pump, args=(source, channel), daemon=True)
    thread.start()
    try:
        yield channel
    finally:
        channel.close()
        source.stop()
        thread.join(JOIN_TIMEOUT_S if source.is_live else None)


def quiet_opencv() -> None:
    """Keep OpenCV and its FFmpeg from adding their own lines to a one-line error."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # In OpenCV 4.5 to 4.x it is cv2.setLogLevel, in 5 it is in cv2.utils.logging.
    for module in (cv2, getattr(getattr(cv2, "utils", None), "logging", None)):
        if hasattr(module, "setLogLevel"):
            module.setLogLevel(OPENCV_ERRORS)  # type: ignore[union-attr]


def source_kind(uri: str) -> SourceKind:
    """Say what a URI names. Raises DeployError for one that is not known or not there."""
    if camera_index(uri) is not None:
        return SourceKind.CAMERA
    if uri.startswith("rtsp://"):
        return SourceKind.RTSP
    if "://" in uri:
        raise DeployError(f"source {uri} is not supported, expected {KNOWN}")
    if Path(uri).is_dir():
        return SourceKind.FOLDER
    if Path(uri).is_file():
        return SourceKind.FILE
    raise DeployError(f"source {uri} is not there, expected {KNOWN}")


def open_capture(uri: str) -> cv2.VideoCapture:
    """Return OpenCV's reader of a URI, open or not; a network camera has a time limit."""
    camera = camera_index(uri)
    if camera is not None:
        return cv2.VideoCapture(camera)
    # OpenCV 4.5.2 brought the limits; before, FFmpeg's 30 s hold.
    if uri.startswith("rtsp://") and hasattr(cv2, "CAP_PROP_READ_TIMEOUT_MSEC"):
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            NETWORK_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
    return cv2.VideoCapture(uri)


def camera_index(uri: str) -> Optional[int]:
    """Return the number of a camera URI, None for anything else."""
    match = re.match(r"^(?:/dev/video)?(\d+)$", uri)
    return int(match.group(1)) if match else None


def list_images(folder: Path) -> List[Path]:
    """Return the image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _pump(source: Source, channel: Channel) -> None:
    try:
        for frame in source.frames():
            if not channel.put(frame):
                break
    except BaseException as error:  # handed to the reader, which raises it
        channel.finish(error)
    else:
        channel.finish()


def _frame(image: np.ndarray, number: int, time_s: float, started_s: float) -> Frame:
    arrived_s = time.perf_counter()
    return Frame(image, number, time_s, arrived_s, (arrived_s - started_s) * 1e3)


def _sane_fps(fps: float, uri: str) -> float:
    if math.isfinite(fps) and 0 < fps <= 1000:
        return fps
    LOGGER.warning("%s: says %s frames per second; %s is assumed", uri, fps, DEFAULT_FPS)
    return DEFAULT_FPS


def _hint(kind: SourceKind) -> str:
    hints = {
        SourceKind.FILE: "is it a whole video? convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
        SourceKind.CAMERA: "is it there and free? list cameras: ls /dev/video*",
        SourceKind.RTSP: "is its address right and reachable from here?",
    }
    return hints[kind]
