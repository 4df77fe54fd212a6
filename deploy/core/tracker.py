"""Follow hands from frame to frame by the overlap of their tight boxes and by their motion.

Each hand's box is taken on at its velocity (deploy.core.motion), and detections are paired with
these predicted boxes so that the sum of the overlaps is largest (deploy.core.assignment); so two
hands that cross keep their numbers. Who is left over is then paired in the same way with where
the hand was last, so that one that stops or turns at a low frame rate is not lost by its own
prediction; and at last by boxes that are widened by `reach`, so that a quick small hand, whose
boxes never overlap, gets a velocity at all.

What is left of the detections begins new tracks at once (the smoother guards against flicker). A
track that is not seen for longer than `max_gap_s` is lost, one that was only ever seen once after
`max_gap_once_s`: no gesture can have begun on it, and it is most likely a false detection that
would take another hand's place. In between a track coasts on, unseen.
"""

from typing import Dict, List, NamedTuple

import numpy as np

from deploy.core.assignment import UNPAIRED, assign_pairs
from deploy.core.boxes import Detections, box_iou
from deploy.core.motion import Motion, MotionRule, follow_box, predict_box, start_motion

# Slack on comparisons of times that are sums of frame intervals.
TIME_TOLERANCE_S = 1e-6


class TrackerRule(NamedTuple):
    """What makes one hand of boxes in several frames.

    iou_threshold: least overlap of the same hand, more than 0; max_gap_s: longest absence;
    max_gap_once_s: the same while a track has been seen only once. reach: how much wider and
    higher boxes are made, as a part of themselves, when nothing overlaps; 0 for not at all.
    """

    iou_threshold: float = 0.2
    max_gap_s: float = 0.5
    max_gap_once_s: float = 0.25
    reach: float = 1.0
    motion: MotionRule = MotionRule()


DEFAULT_RULE = TrackerRule()


class TrackUpdate(NamedTuple):
    """One frame's result.

    track_id: (N,) int64, the track of each detection, in the order of the detections; lost: the
    tracks that end now, in ascending order.
    """

    track_id: np.ndarray
    lost: List[int]


class _Track(NamedTuple):
    motion: Motion
    class_id: int
    num_seen: int


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
        track_id = self._join(detections, time_s)
        for index, (xyxy, class_id) in enumerate(zip(detections.xyxy, detections.class_id)):
            if track_id[index] == 0:
                track_id[index] = self._next_id
                self._next_id += 1
            self._see(int(track_id[index]), xyxy, int(class_id), time_s)
        return TrackUpdate(track_id, lost)

    def flush(self) -> List[int]:
        """End all tracks, because the source has ended; return their numbers, ascending."""
        lost = sorted(self._tracks)
        self._tracks.clear()
        return lost

    def _see(self, number: int, xyxy: np.ndarray, class_id: int, time_s: float) -> None:
        track = self._tracks.get(number)
        if track is None:
            self._tracks[number] = _Track(start_motion(xyxy, time_s=time_s), class_id, 1)
        else:
            motion = follow_box(track.motion, xyxy, self.rule.motion, time_s=time_s)
            self._tracks[number] = _Track(motion, class_id, track.num_seen + 1)

    def _drop_old(self, time_s: float) -> List[int]:
        lost = []
        for number, track in sorted(self._tracks.items()):
            gap_s = time_s - track.motion.seen_s
            if gap_s < 0:
                raise ValueError(
                    f"frame at {time_s} s comes after a later one; expected time order"
                )
            if gap_s > self._longest_gap_s(track) + TIME_TOLERANCE_S:
                lost.append(number)
        for number in lost:
            del self._tracks[number]
        return lost

    def _longest_gap_s(self, track: _Track) -> float:
        if track.num_seen > 1:
            return self.rule.max_gap_s
        return min(self.rule.max_gap_s, self.rule.max_gap_once_s)

    def _join(self, detections: Detections, time_s: float) -> np.ndarray:
        """Numbers of the tracks that the detections belong to, 0 for a new hand: (N,) int64."""
        track_id = np.zeros(len(detections.xyxy), np.int64)
        if not len(track_id) or not self._tracks:
            return track_id
        last = {number: track.motion.xyxy for number, track in sorted(self._tracks.items())}
        predicted = {
            number: predict_box(self._tracks[number].motion, self.rule.motion, time_s=time_s)
            for number in last
        }
        for boxes, reach in ((predicted, 0.0), (last, 0.0), (predicted, self.rule.reach)):
            if (track_id == 0).any():
                self._pair_inplace(track_id, boxes, detections, reach)
        return track_id

    def _pair_inplace(
        self,
        track_id: np.ndarray,
        boxes: Dict[int, np.ndarray],
        detections: Detections,
        reach: float,
    ) -> None:
        """Give detections without a track (0) one that has none, by the tracks' boxes (4,)."""
        taken = set(track_id.tolist())
        numbers = [number for number in boxes if number not in taken]
        if not numbers:
            return
        free = np.flatnonzero(track_id == 0)  # (F,)
        places = _widen(np.stack([boxes[number] for number in numbers]), reach)  # (T, 4)
        iou = box_iou(places, _widen(detections.xyxy[free].astype(np.float64), reach))  # (T, F)
        classes = np.array([self._tracks[number].class_id for number in numbers])
        iou[classes[:, None] != detections.class_id[free]] = 0
        pairs = assign_pairs(iou, least_score=self.rule.iou_threshold)
        for number, column in zip(numbers, pairs):
            if column != UNPAIRED:
                track_id[free[column]] = number


def _widen(xyxy: np.ndarray, reach: float) -> np.ndarray:
    """Boxes (N, 4) about the same centres, larger by `reach` of their width and height."""
    if reach == 0:
        return xyxy
    margin = (xyxy[:, 2:] - xyxy[:, :2]) * (reach / 2)
    return np.concatenate([xyxy[:, :2] - margin, xyxy[:, 2:] + margin], axis=1)
