"""Where results go, as one URI each; any number of them.

| URI | sink |
|---|---|
| out.mp4, out.avi, out.webm | video with the drawn frames (mp4v, MJPG, VP8) |
| folder/ | drawn frames as frame_000000.jpg, ... |
| events.jsonl | events, one JSON object per line |
| - | events on standard output |
| mqtt://HOST/TOPIC, mqtts:// | events as messages (deploy/sink_mqtt.py) |
| post+http://HOST/PATH, post+https:// | events as requests (deploy/sink_post.py) |
| ros2://TOPIC | events as std_msgs/String (deploy/sink_ros2.py) |
| http://HOST:PORT | web page with pictures, events and metrics (deploy/web.py) |
| window | drawn frames on the screen; q or Escape ends the program |

Of these, NAME.jsonl, -, mqtt, post and ros2 also take commands (--command-sink). Nothing is
opened, and no earlier file touched, before the first frame has been read.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from deploy.core.commands import Decision, format_decision
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, format_event
from deploy.health import Health
from deploy.latency import Latency
from deploy.sink_post import PostSink
from deploy.web import WebEvents, WebPictures, WebServer

FOURCC = {".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"}
if TYPE_CHECKING:
    from deploy.sink_mqtt import MqttSink
    from deploy.sink_ros2 import Ros2Sink

KNOWN = (
    "NAME.mp4, .avi or .webm, FOLDER/, NAME.jsonl, - (standard output), mqtt://HOST/TOPIC, "
    "post+http://HOST/PATH, ros2://TOPIC, http://HOST:PORT or window"
)
KNOWN_FOR_COMMANDS = (
    "NAME.jsonl, - (standard output), mqtt://HOST/TOPIC, post+http://HOST/PATH or ros2://TOPIC"
)
JPEG_QUALITY = 90
# OpenCV does not say that a video could not be written: the space is looked at instead.
LEAST_FREE_MB = 16
FREE_CHECK_FRAMES = 30
END_KEYS = (ord("q"), 27)


class EventSink:
    """Events or commands as JSON lines, in a file or on standard output, each written at once."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._stream: Optional[IO[str]] = None

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Open the file; an earlier one is replaced."""
        if self.uri == "-":
            self._stream = sys.stdout
            return
        try:
            self._stream = open(self.uri, "w", encoding="utf-8")  # noqa: SIM115 (close closes it)
        except OSError as error:
            raise DeployError(f"sink {self.uri} cannot be written: {error.strerror}") from None

    def write(self, event: GestureEvent) -> None:
        """Write one event. Raises DeployError when the disk is full or the reader has gone."""
        self._write_line(format_event(event))

    def write_command(self, decision: Decision, *, is_change: bool) -> None:
        """Write a command that is another than the last. Raises as write does."""
        if is_change:
            self._write_line(format_decision(decision, time_s=time.time()))

    def _write_line(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")  # type: ignore[union-attr]
            self._stream.flush()  # type: ignore[union-attr]
        except OSError as error:
            raise DeployError(f"sink {self.uri} cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._stream is not None and self.uri != "-":
            self._stream.close()


class VideoSink:
    """Drawn frames as a video, at the rate of the source."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._writer: Optional[cv2.VideoWriter] = None
        self._num_frames = 0
        self._image_wh = (0, 0)

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Open the file. Raises DeployError when this OpenCV cannot write it."""
        suffix = Path(self.uri).suffix.lower()
        self._image_wh = image_wh
        code = int.from_bytes(FOURCC[suffix].encode("ascii"), "little")
        self._writer = cv2.VideoWriter(self.uri, code, fps, image_wh)
        if not self._writer.isOpened():
            raise DeployError(
                f"sink {self.uri} cannot be written: no such folder, no permission, or this "
                f"OpenCV {cv2.__version__} has no {FOURCC[suffix]} encoder"
            )

    def write(self, image: np.ndarray, index: int) -> bool:
        """Write a frame; True. Raises DeployError for a frame of another size."""
        seen_wh = (image.shape[1], image.shape[0])
        if seen_wh != self._image_wh:
            raise DeployError(
                f"sink {self.uri} began with frames of {self._image_wh}, frame {index} is "
                f"{seen_wh}; a video needs one size, write to FOLDER/ instead"
            )
        if self._num_frames % FREE_CHECK_FRAMES == 0:
            self._check_free()
        self._num_frames += 1
        self._writer.write(image)  # type: ignore[union-attr]
        return True

    def _check_free(self) -> None:
        free_mb = shutil.disk_usage(os.path.dirname(self.uri) or ".").free / 2**20
        if free_mb < LEAST_FREE_MB:
            raise DeployError(
                f"sink {self.uri} ends: {free_mb:.0f} MB are free, expected {LEAST_FREE_MB}; "
                "make room"
            )

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


class FolderSink:
    """Drawn frames as JPEG files."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Make the folder."""
        try:
            os.makedirs(self.uri, exist_ok=True)
        except OSError as error:
            raise DeployError(f"sink {self.uri} cannot be made: {error.strerror}") from None

    def write(self, image: np.ndarray, index: int) -> bool:
        """Write a frame; True."""
        path = os.path.join(self.uri, f"frame_{index:06d}.jpg")
        if not cv2.imwrite(path, image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise DeployError(f"sink {path} cannot be written; is the disk full?")
        return True

    def close(self) -> None:
        """Nothing is open."""


class WindowSink:
    """Drawn frames on the screen."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._is_open = False

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Open the window. Raises DeployError without a screen or with a headless OpenCV."""
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            raise DeployError("sink window needs a screen: DISPLAY is not set; write to a file")
        try:
            cv2.namedWindow(self.uri, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise DeployError(
                "sink window needs an OpenCV with a GUI, this one is headless; "
                "run: pip install opencv-python, or write to a file"
            ) from None
        self._is_open = True

    def write(self, image: np.ndarray, index: int) -> bool:
        """Show a frame; False when the user wants to end."""
        cv2.imshow(self.uri, image)
        return (cv2.waitKey(1) & 0xFF) not in END_KEYS

    def close(self) -> None:
        """Close the window."""
        if self._is_open:
            cv2.destroyWindow(self.uri)


AnyEventSink = Union[EventSink, "MqttSink", PostSink, "Ros2Sink", WebEvents]
CommandSink = Union[EventSink, "MqttSink", PostSink, "Ros2Sink"]
PictureSink = Union[VideoSink, FolderSink, WindowSink, WebPictures]


class Sinks(NamedTuple):
    """The sinks of a run, by what they take."""

    events: Sequence[AnyEventSink]
    pictures: Sequence[Any]  # PictureSink and deploy.recording.Recorder
    commands: Sequence[CommandSink] = ()


def make_sinks(
    uris: Sequence[str],
    *,
    commands: Sequence[str] = (),
    health: Optional[Health] = None,
    latency: Optional[Latency] = None,
) -> Sinks:
    """Make a sink of each URI, not yet open. Raises DeployError for one unknown or given twice.

    commands: URIs of what takes commands; health takes faults; it and latency are what the web
    page shows.
    """
    health, latency = health or Health(), latency or Latency()
    events: List[AnyEventSink] = []
    pictures: List[PictureSink] = []
    given = [*uris, *commands]
    for uri in given:
        if given.count(uri) > 1:
            raise DeployError(f"sink {uri} is given twice")
    for uri in uris:
        messages = _message_sink(uri, health, is_command=False)
        if messages is not None:
            events.append(messages)
        elif uri.startswith("http://"):
            server = WebServer(uri, health, latency)
            events.append(WebEvents(server))
            pictures.append(WebPictures(server))
        else:
            pictures.append(_picture_sink(uri))
    return Sinks(events, pictures, [_command_sink(uri, health) for uri in commands])


def _command_sink(uri: str, health: Health) -> CommandSink:
    sink = _message_sink(uri, health, is_command=True)
    if sink is None:
        raise DeployError(f"command sink {uri} is not supported, expected {KNOWN_FOR_COMMANDS}")
    return sink


def _message_sink(uri: str, health: Health, *, is_command: bool) -> Optional[CommandSink]:
    """Make a sink that takes messages; None for a URI of another kind."""
    if uri == "-" or Path(uri).suffix.lower() == ".jsonl":
        return EventSink(uri)
    if uri.startswith(("mqtt://", "mqtts://")):
        from deploy.sink_mqtt import MqttSink

        return MqttSink(uri, health)
    if uri.startswith("post+http"):
        return PostSink(uri, health)
    if uri.startswith("ros2://"):
        from deploy.sink_ros2 import Ros2Sink

        return Ros2Sink(uri, health, is_command=is_command)
    return None


def _picture_sink(uri: str) -> PictureSink:
    suffix = Path(uri).suffix.lower()
    if uri == "window":
        return WindowSink(uri)
    if suffix in FOURCC:
        return VideoSink(uri)
    if "://" not in uri and (uri.endswith("/") or not suffix):
        return FolderSink(uri)
    raise DeployError(f"sink {uri} is not supported, expected {KNOWN}")
