"""A short video around every gesture that begins, from a ring of the latest pictures.

The ring holds JPEG, not pictures: 3 s of 1280x720 at 30 frames/s are about 15 MB instead of 250.
"""

import collections
import os
import threading
from pathlib import Path
from typing import Any, Deque, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.sink import VideoSink

JPEG_QUALITY = 90
DEFAULT_SECONDS = 3.0
DEFAULT_KEEP = 200


class _Beginning(NamedTuple):
    frame: int
    name: str


class Recorder:
    """An event sink and a picture sink in one: both parts may be on threads of their own.

    Clips are FOLDER/<time>_<gesture>_<track>.mp4, seconds before and after the `begin`; one that
    begins while another is recorded makes that one longer. Of all clips the newest `keep` stay.
    """

    def __init__(
        self,
        folder: str,
        *,
        seconds: float = DEFAULT_SECONDS,
        keep: int = DEFAULT_KEEP,
        health: Optional[Health] = None,
    ) -> None:
        self.uri = folder
        self._folder = Path(folder)
        self._seconds = seconds
        self._keep = keep
        self._health = health or Health()
        self._lock = threading.Lock()
        self._beginnings: Deque[_Beginning] = collections.deque()
        self._ring: Deque[Tuple[int, np.ndarray]] = collections.deque()
        self._shape = (0, 0)
        self._num_frames = 1
        self._fps = 1.0
        self._clip: Optional[VideoSink] = None
        self._last = -1
        self._paths: List[Path] = []

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Make the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeployError(f"record {self.uri} cannot be made: {error.strerror}") from None
        self._fps = fps
        self._num_frames = max(1, round(self._seconds * fps))
        self._paths = sorted(self._folder.glob("*.mp4"), key=os.path.getmtime)

    def note(self, event: GestureEvent) -> None:
        """Take in an event."""
        if event.phase is Phase.BEGIN:
            name = f"{event.time:.3f}_{event.gesture}_{event.track}.mp4"
            with self._lock:
                self._beginnings.append(_Beginning(event.frame, name))

    def write(self, image: np.ndarray, index: int) -> bool:
        """Take in a drawn frame; True. Raises DeployError when a clip cannot be written."""
        is_encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not is_encoded:
            raise DeployError(f"record {self.uri}: frame {index} cannot be encoded")
        if self._ring and image.shape[:2] != self._shape:
            self.close()  # the camera gives another size now: the clip ends, others may begin
            self._ring.clear()
        self._shape = image.shape[:2]
        for beginning in self._due(index):
            self._begin(beginning, image)
        self._ring.append((index, data))
        if self._clip is not None:
            self._clip.write(image, index)
            if index >= self._last:
                self._end()
        while len(self._ring) > self._num_frames:
            self._ring.popleft()
        return True

    def close(self) -> None:
        """Finish a clip that is being written."""
        if self._clip is not None:
            self._end()

    def _due(self, index: int) -> List[_Beginning]:
        due = []
        with self._lock:
            while self._beginnings and self._beginnings[0].frame <= index:
                due.append(self._beginnings.popleft())
        return due

    def _begin(self, beginning: _Beginning, image: np.ndarray) -> None:
        self._last = beginning.frame + self._num_frames
        if self._clip is not None:
            return
        path = self._folder / beginning.name
        self._clip = VideoSink(str(path))
        self._clip.start((image.shape[1], image.shape[0]), self._fps)
        for index, data in self._ring:
            picture: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
            self._clip.write(picture, index)
        self._paths.append(path)

    def _end(self) -> None:
        self._clip.close()  # type: ignore[union-attr]
        self._clip = None
        while len(self._paths) > self._keep:
            oldest = self._paths.pop(0)
            try:
                oldest.unlink()
            except OSError as error:
                self._health.fault("record", f"{oldest} cannot be removed: {error.strerror}")
