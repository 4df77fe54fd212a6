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
from typing import Callable, Iterator, List, NamedTuple, Optional, Union

import cv2
import numpy as np

from deploy.capture import (
    JOIN_TIMEOUT_S,
    LIVE,
    Decoder,
    Lend,
    Reader,
    SourceKind,
    describe_emptiness,
    describe_failure,
    open_capture,
    source_kind,
    takes_readers,
)
from deploy.channel import Channel
from deploy.core.errors import DeployError
from deploy.gstreamer import CameraOptions, flip_image
from deploy.health import Health
from deploy.readers import Turns, pump

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


class Frame(NamedTuple):
    """One picture of a source.

    image: (H, W, 3) uint8 BGR, nobody writes into it; number: from 0; time_s: see the module;
    arrived_s: time.perf_counter() when it was decoded, which took decode_ms, with those that its
    reader left to others; resized: the image at a network's input size, where read_ahead's
    `prepare` has made it.
    """

    image: np.ndarray
    number: int
    time_s: float
    arrived_s: float
    decode_ms: float = 0.0
    resized: Optional[np.ndarray] = None


Prepare = Callable[[Frame], Frame]


class VideoSource:
    """A file, camera or stream through OpenCV. `open_source` opens and closes it."""

    def __init__(
        self,
        uri: str,
        kind: SourceKind,
        *,
        camera: CameraOptions = CameraOptions(),  # noqa: B008 (a NamedTuple cannot change)
        decoder: Decoder = Decoder.AUTO,
        readers: int = 1,
        health: Optional[Health] = None,
    ) -> None:
        """Open it. Raises DeployError when it does not open.

        camera.fps: also instead of what a file says; readers: of a file that OpenCV itself
        decodes, see deploy.readers; there is one of anything else.
        """
        self.uri = uri
        self.is_live = kind in LIVE
        self._health = health or Health()
        self._stopped = threading.Event()
        self.num_readers = readers if takes_readers(uri, kind, decoder) else 1
        self._readers: List[Reader] = []
        for _ in range(self.num_readers):
            self._readers.append(Reader(lambda: open_capture(uri, kind, camera, decoder)))
            if not self._readers[-1].is_open():
                self.close()
                raise DeployError(describe_failure(uri, kind))
        self.fps = camera.fps or _sane_fps(self._readers[0].get(cv2.CAP_PROP_FPS), uri)
        # Times of a live source never run backwards, not even when the clock is set.
        self._epoch_s = time.time() - time.monotonic()

    def frames(self, lend: Optional[Lend] = None) -> Iterator[Frame]:
        """Yield the frames in order, decoded into memory that `lend` gives for their shape.

        A live source that gives none is opened again, with longer and longer waits, until `stop`;
        numbers go on. Raises DeployError when a file holds no frame.
        """
        number = 0
        while True:
            frame = self._read(self._readers[0], number, lend)
            if frame is None and self.is_live and self._reopen():
                continue
            if frame is None:
                break
            self._health.recover("source", f"{self.uri}: gives frames again")
            yield frame
            del frame  # its memory may be lent for the next one
            number += 1
        if not self.is_live:
            self.check_end(number)

    def shares(self, lend: Optional[Lend] = None) -> List[Iterator[Frame]]:
        """Return an iterator for each reader of a file, for a thread of its own: the k-th of N
        yields frames k, k + N, ... as `frames` does.

        The first frame that is not there ends the file, whatever other readers still give; whoever
        puts them in order then calls check_end.
        """
        start = max(reader.num_grabbed for reader in self._readers)
        return [self._share(first, start, lend) for first in range(self.num_readers)]

    def check_end(self, num_frames: int) -> None:
        """Warn when a file ended after fewer frames than it should hold; without any, raise
        DeployError."""
        if num_frames == 0:
            raise DeployError(describe_emptiness(self.uri))
        expected = int(self._readers[0].get(cv2.CAP_PROP_FRAME_COUNT))
        if num_frames < expected:
            LOGGER.warning("%s: ended after %d of %d frames", self.uri, num_frames, expected)

    def stop(self) -> None:
        """End the frames of a live source that is being opened again."""
        self._stopped.set()

    def close(self) -> None:
        """Free the device or file, unless a thread hangs in it: releasing it then crashes."""
        for reader in self._readers:
            reader.close()

    def _share(self, first: int, start: int, lend: Optional[Lend]) -> Iterator[Frame]:
        """Yield one reader's frames; number 0 is frame `start` of the file."""
        reader, number = self._readers[first], first
        while True:
            frame = self._read(reader, number, lend, skip=start + number - reader.num_grabbed)
            if frame is None:
                return
            yield frame
            del frame  # its memory may be lent for the next one
            number += self.num_readers

    def _read(
        self, reader: Reader, number: int, lend: Optional[Lend], *, skip: int = 0
    ) -> Optional[Frame]:
        picture = reader.read(lend, skip=skip)
        if picture is None:
            return None
        time_s = self._epoch_s + time.monotonic() if self.is_live else number / self.fps
        image = flip_image(picture.image, reader.flip)
        return _frame(image, number, time_s, picture.started_s)

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
            if self._readers[0].reopen():
                return True


class FolderSource:
    """Images of a folder, in the order of their names."""

    is_live = False
    num_readers = 1

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
    readers: int = 1,
    health: Optional[Health] = None,
) -> Iterator[Source]:
    """Open a source; the block gets it, closed afterwards.

    fps: frames per second of a folder, asked of a camera, or instead of what a file says; camera,
    decoder: see deploy.capture; readers: how many read a video file ahead side by side, see
    deploy.readers; health: takes the faults of a live one. Raises DeployError.
    """
    kind = source_kind(uri)
    camera = camera._replace(fps=fps or camera.fps)
    source: Source
    if kind is SourceKind.FOLDER:
        source = FolderSource(uri, fps=camera.fps)
    else:
        source = VideoSource(
            uri, kind, camera=camera, decoder=decoder, readers=readers, health=health
        )
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
    """Decode on threads of their own, one for each of the source's readers; the block iterates
    over the frames.

    depth: frames that may wait; READ_AHEAD, or READ_AHEAD_LIVE of a live source, which drops its
    oldest waiting frame when nobody is ready; others wait. Each reader may hold one more. lend:
    gives memory for frames of a shape, or None; prepare: is called with each frame at once on its
    reader's thread, while that is still in the processor's cache, and returns the one to go on
    with. The iteration raises what the source raises.
    """
    if depth is None:
        depth = READ_AHEAD_LIVE if source.is_live else READ_AHEAD
    channel = Channel(depth, drop_oldest=source.is_live)
    turns = Turns(source.num_readers if isinstance(source, VideoSource) else 1)
    threads = _reading_threads(source, turns, channel, prepare, lend)
    try:
        for thread in threads:
            thread.start()
        yield channel
    finally:
        channel.close()
        turns.end()
        source.stop()
        for thread in threads:
            if thread.is_alive():
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


def _reading_threads(
    source: Source,
    turns: Turns,
    channel: Channel,
    prepare: Optional[Prepare],
    lend: Optional[Lend],
) -> List[threading.Thread]:
    """Return what reads each share; nobody else holds a share, and so no frame of it either."""
    at_end: Optional[Callable[[int], None]] = None
    if isinstance(source, VideoSource) and source.num_readers > 1:
        shares, at_end = source.shares(lend), source.check_end
    else:  # `frames` looks after its end itself
        shares = [source.frames() if lend is None else source.frames(lend)]
    options = {"prepare": prepare, "at_end": at_end}
    return [
        threading.Thread(
            target=pump, args=(share, index, turns, channel), kwargs=options, daemon=True
        )
        for index, share in enumerate(shares)
    ]


def _frame(image: np.ndarray, number: int, time_s: float, started_s: float) -> Frame:
    arrived_s = time.perf_counter()
    return Frame(image, number, time_s, arrived_s, (arrived_s - started_s) * 1e3)


def _sane_fps(fps: float, uri: str) -> float:
    if math.isfinite(fps) and 0 < fps <= 1000:
        return fps
    LOGGER.warning("%s: says %s frames per second; %s is assumed", uri, fps, DEFAULT_FPS)
    return DEFAULT_FPS
