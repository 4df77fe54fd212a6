"""Where frames come from, as one URI.

| URI | source | time of a frame |
|---|---|---|
| clip.mp4 (any file that OpenCV decodes) | video | frame / rate of the file, in seconds |
| folder/ | its .jpg, .jpeg, .png and .bmp, by name | frame / rate (30 unless given) |
| 0, /dev/video0, csi://0 | camera | Unix time |
| rtsp://host/path | network camera | Unix time |
| gst:PIPELINE | GStreamer pipeline | Unix time |
"""

import contextlib
import logging
import math
import os
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from deploy.capture import (
    LIVE,
    Decoder,
    SourceKind,
    describe_emptiness,
    describe_failure,
    open_capture,
    source_kind,
)
from deploy.channel import Channel
from deploy.core.errors import DeployError
from deploy.gstreamer import CameraOptions, flip_image
from deploy.health import Health

LOGGER = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

# Frames decoded ahead: enough to even out slow ones, little memory (2.8 MB each at 1280x720).
READ_AHEAD = 4
# Of a live source only the newest frame waits: an older one would tell what is no longer so.
READ_AHEAD_LIVE = 1
# cv2.setLogLevel: 2 is errors, 3 warnings.
OPENCV_ERRORS = 2
# Waiting times between attempts to open a live source again: doubled from the first to the last.
BACKOFF_S = (0.5, 10.0)
# A camera that hangs must not keep the program from ending.
JOIN_TIMEOUT_S = 2.0


class Frame(NamedTuple):
    """One picture of a source.

    image: (H, W, 3) uint8 BGR, nobody writes into it; number: from 0; time_s: see the module;
    arrived_s: time.perf_counter() when it was decoded, which took decode_ms; resized: the image
    at a network's input size, where read_ahead's `prepare` has made it.
    """

    image: np.ndarray
    number: int
    time_s: float
    arrived_s: float
    decode_ms: float = 0.0
    resized: Optional[np.ndarray] = None


Prepare = Callable[[Frame], Frame]
Lend = Callable[[Tuple[int, ...]], Optional[np.ndarray]]


class VideoSource:
    """A file, camera or stream through OpenCV. `open_source` opens and closes it."""

    def __init__(
        self,
        uri: str,
        kind: SourceKind,
        *,
        camera: CameraOptions = CameraOptions(),  # noqa: B008 (a NamedTuple cannot change)
        decoder: Decoder = Decoder.AUTO,
        health: Optional[Health] = None,
    ) -> None:
        """Open it. Raises DeployError when it does not open.

        camera.fps: also instead of what a file says.
        """
        self.uri = uri
        self.is_live = kind in LIVE
        self._open = lambda: open_capture(uri, kind, camera, decoder)
        self._health = health or Health()
        self._stopped = threading.Event()
        self._capture, self._flip = self._open()
        if not self._capture.isOpened():
            raise DeployError(describe_failure(uri, kind))
        self.fps = camera.fps or _sane_fps(self._capture.get(cv2.CAP_PROP_FPS), uri)
        self._reading = threading.Lock()
        # Times of a live source never run backwards, not even when the clock is set.
        self._epoch_s = time.time() - time.monotonic()

    def frames(self, lend: Optional[Lend] = None) -> Iterator[Frame]:
        """Yield the frames in order, decoded into memory that `lend` gives for their shape.

        A live source that gives none is opened again, with longer and longer waits, until `stop`;
        numbers go on. Raises DeployError when a file holds no frame.
        """
        number = 0
        shape: Optional[Tuple[int, ...]] = None  # the first frame tells it
        while True:
            room = lend(shape) if lend is not None and shape is not None else None
            started = time.perf_counter()
            with self._reading:
                is_read, image = self._read(room)
            room = None
            if not is_read and self.is_live and self._reopen():
                continue
            if not is_read:
                break
            self._health.recover("source", f"{self.uri}: gives frames again")
            shape = image.shape
            time_s = self._epoch_s + time.monotonic() if self.is_live else number / self.fps
            yield _frame(flip_image(image, self._flip), number, time_s, started)
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

    def _read(self, room: Optional[np.ndarray]) -> Tuple[bool, np.ndarray]:
        """Decode a frame; into `room` if that is of its shape, else OpenCV makes another array."""
        return self._capture.read() if room is None else self._capture.read(room)

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
                self._capture, self._flip = self._open()
                if self._capture.isOpened():
                    return True

    def _check_end(self, num_frames: int) -> None:
        if num_frames == 0:
            raise DeployError(describe_emptiness(self.uri))
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

    def frames(self, lend: Optional[Lend] = None) -> Iterator[Frame]:
        """Yield the frames in order; imread makes its own arrays, whatever `lend` gives.

        Raises DeployError that names an image it cannot read.
        """
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
    uri: str,
    *,
    fps: Optional[float] = None,
    camera: CameraOptions = CameraOptions(),  # noqa: B008 (a NamedTuple cannot change)
    decoder: Decoder = Decoder.AUTO,
    health: Optional[Health] = None,
) -> Iterator[Source]:
    """Open a source; the block gets it, closed afterwards.

    fps: frames per second of a folder, asked of a camera, or instead of what a file says; camera,
    decoder: see deploy.capture; health: takes the faults of a live one. Raises DeployError.
    """
    kind = source_kind(uri)
    camera = camera._replace(fps=fps or camera.fps)
    source: Source
    if kind is SourceKind.FOLDER:
        source = FolderSource(uri, fps=camera.fps)
    else:
        source = VideoSource(uri, kind, camera=camera, decoder=decoder, health=health)
    try:
        yield source
    finally:
        source.close()


@contextlib.contextmanager
def read_ahead(
    source: Source,
    *,
    depth: Optional[int] = None,
    prepare: Optional[Prepare] = None,
    lend: Optional[Lend] = None,
) -> Iterator[Channel]:
    """Decode on a thread of its own; the block iterates over the frames.

    depth: frames that may wait; READ_AHEAD, or READ_AHEAD_LIVE of a live source, which drops its
    oldest waiting frame when nobody is ready; others wait. lend: gives memory for frames of a
    shape, or None; prepare: is called with each frame at once, while that is still in the
    processor's cache, and returns the one to go on with. The iteration raises what the source
    raises.
    """
    if depth is None:
        depth = READ_AHEAD_LIVE if source.is_live else READ_AHEAD
    channel = Channel(depth, drop_oldest=source.is_live)
    thread = threading.Thread(target=_pump, args=(source, channel, prepare, lend), daemon=True)
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


def list_images(folder: Path) -> List[Path]:
    """Return the image files directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _pump(
    source: Source,
    channel: Channel,
    prepare: Optional[Prepare],
    lend: Optional[Lend],
) -> None:
    try:
        for frame in source.frames() if lend is None else source.frames(lend):
            if prepare is not None:
                frame = prepare(frame)
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
