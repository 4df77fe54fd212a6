"""Follow hands from frame to frame by the overlap of their tight boxes.

Each frame, the pair of track and detection that overlaps most is joined first (then the next, each
track and detection once) while the overlap reaches `iou_threshold`. What is left over of the
detections begins new tracks; a track that is not seen for longer than `max_gap_s` is lost. A track
between is kept, unseen, where it was last.
"""

from typing import Dict, List, NamedTuple

import numpy as np

from deploy.core.boxes import Detections, box_iou

# Slack on comparisons of times that are sums of frame intervals.
TIME_TOLERANCE_S = 1e-6


class TrackerRule(NamedTuple):
    """iou_threshold: least overlap of the same hand in two frames; max_gap_s: longest absence."""

    iou_threshold: float = 0.2
    max_gap_s: float = 0.5


DEFAULT_RULE = TrackerRule()


class TrackUpdate(NamedTuple):
    """One frame's result.

    track_id: (N,) int64, the track of each detection, in the order of the detections; lost: the
    tracks that end now, in ascending order.
    """

    track_id: np.ndarray
    lost: List[int]


class _Track(NamedTuple):
    xyxy: np.ndarray
    class_id: int
    last_seen_s: float


class Tracker:
    """Track numbers start at 1 and are never used again."""

    def __init__(self, rule: TrackerRule = DEFAULT_RULE) -> None:
        self.rule = rule
        self._tracks: Dict[int, _Track] = {}
        self._next_id = 1

    def update(self, detections: Detections, *, time_s: float) -> TrackUpdate:
        """Join the detections of the frame at `time_s` to tracks. Call once a frame, in order.

        A detection joins only tracks of its class. Ties go to the older track, then to the earlier
        detection. Raises ValueError when the time runs backwards.
        """
        lost = self._drop_old(time_s)
        track_id = self._join(detections)
        for index, (xyxy, class_id) in enumerate(zip(detections.xyxy, detections.class_id)):
            if track_id[index] == 0:
                track_id[index] = self._next_id
                self._next_id += 1
            self._tracks[int(track_id[index])] = _Track(xyxy.copy(), int(class_id), time_s)
        return TrackUpdate(track_id, lost)

    def flush(self) -> List[int]:
        """End all tracks, because the source has ended; return their numbers, ascending."""
        lost = sorted(self._tracks)
        self._tracks.clear()
        return lost

    def _drop_old(self, time_s: float) -> List[int]:
        gaps = {number: time_s - track.last_seen_s for number, track in self._tracks.items()}
        if any(gap < 0 for gap in gaps.values()):
            raise ValueError(f"frame at {time_s} s comes after a later one; expected time order")
        limit = self.rule.max_gap_s + TIME_TOLERANCE_S
        lost = sorted(number for number, gap in gaps.items() if gap > limit)
        for number in lost:
            del self._tracks[number]
        return lost

    def _join(self, detections: Detections) -> np.ndarray:
        """Numbers of the tracks that the detections belong to, 0 for a new hand: (N,) int64."""
        track_id = np.zeros(len(detections.xyxy), np.int64)
        numbers = sorted(self._tracks)
        if not numbers or not len(track_id):
            return track_id
        boxes = np.stack([self._tracks[number].xyxy for number in numbers])
        kinds = np.array([self._tracks[number].class_id for number in numbers])
        iou = box_iou(boxes, detections.xyxy)  # (T, N)
        iou[kinds[:, None] != detections.class_id] = -1
        while iou.max() >= self.rule.iou_threshold:
            row, column = np.unravel_index(iou.argmax(), iou.shape)
            track_id[column] = numbers[row]
            iou[row], iou[:, column] = -1, -1
        return track_id
