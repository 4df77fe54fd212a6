"""The margin between detector and classifier, frame by frame: what the probes ask and tell.

    source -> muxer -> detector -> [expand] -> classifier -> [restore] -> screen

`expand` takes the tight boxes of a frame, follows them, and gives the region that the classifier
is to see in place of each; `restore` takes the class probabilities that it found, and gives the
events. Tracker, region rule, smoother and events are deploy.core's; nothing here knows DeepStream.

DeepStream cuts regions without looking at the frame's border, so that regions of border "pad" are
clipped here; the configuration keeps the aspect of what is left (server_config.border_resize).
"""

import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.core.boxes import Detections
from deploy.core.events import GestureEvent, change_event, idle_indices
from deploy.core.model_json import ModelInfo
from deploy.core.roi import RoiRule, expand_boxes
from deploy.core.smoother import Change, Smoother
from deploy.core.tracker import Tracker


class FrameTime(NamedTuple):
    """A frame's number from 0, its time in seconds, and when it arrived (perf_counter)."""

    number: int
    time_s: float
    arrived_s: float


class Region(NamedTuple):
    """What the classifier sees in place of a box: its track and xyxy (4,) in pixels."""

    track: int
    xyxy: np.ndarray


class Margin:
    """The state of one source between frames. Call expand, then restore, once for each frame."""

    def __init__(self, model: ModelInfo, *, source: str, image_wh: Tuple[int, int]) -> None:
        """model: of the classifier; image_wh: of the muxer's frames, in pixels."""
        rule = model.roi or RoiRule()
        self._rule = rule._replace(border="clip") if rule.border == "pad" else rule
        self._classes = model.classes
        self._source = source
        self._image_wh = image_wh
        self._tracker = Tracker()
        self._smoother = Smoother(idle_indices(model.classes))
        self._frame: Optional[FrameTime] = None
        self._boxes: Dict[int, Tuple[np.ndarray, np.ndarray]] = {}
        self._lost: List[int] = []

    def expand(self, frame: FrameTime, detections: Detections) -> List[Region]:
        """Follow the tight boxes of a frame; return a region for each, in their order.

        The boxes are copied, never changed. Raises ValueError when time runs backwards.
        """
        update = self._tracker.update(detections, time_s=frame.time_s)
        regions = expand_boxes(detections.xyxy, self._rule, image_wh=self._image_wh)
        tracks = update.track_id.tolist()
        self._frame, self._lost = frame, update.lost
        self._boxes = {
            track: (tight.copy(), region)
            for track, tight, region in zip(tracks, detections.xyxy, regions)
        }
        return [Region(track, region) for track, region in zip(tracks, regions)]

    def tight_box(self, track: int) -> Optional[np.ndarray]:
        """Return the box (4,) that a track had in this frame before it was expanded, or None."""
        found = self._boxes.get(track)
        return None if found is None else found[0]

    def restore(self, probabilities: Dict[int, np.ndarray]) -> List[GestureEvent]:
        """Take in class probabilities (C,) by track; return the events of the frame, in order.

        A track without probabilities (its region was too small to classify) changes nothing.
        """
        changes = self._lose(self._lost)
        self._lost = []
        for track, row in probabilities.items():
            if track in self._boxes and self._frame is not None:
                found = self._smoother.update(track, row, time_s=self._frame.time_s)
                changes += [(track, change) for change in found]
        return [self._event(track, change) for track, change in changes]

    def finish(self) -> List[GestureEvent]:
        """End all tracks, because the source has ended; return what closes their gestures."""
        return [self._event(track, change) for track, change in self._lose(self._tracker.flush())]

    def _lose(self, tracks: Sequence[int]) -> List[Tuple[int, Change]]:
        return [(track, change) for track in tracks for change in self._smoother.lose(track)]

    def _event(self, track: int, change: Change) -> GestureEvent:
        frame = self._frame or FrameTime(0, 0.0, time.perf_counter())
        tight, region = self._boxes.get(track, (None, None))
        return change_event(
            change,
            classes=self._classes,
            time=frame.time_s,
            source=self._source,
            frame=frame.number,
            track=track,
            box=tight,
            roi=region,
            image_wh=self._image_wh,
            latency_ms=(time.perf_counter() - frame.arrived_s) * 1000,
        )
