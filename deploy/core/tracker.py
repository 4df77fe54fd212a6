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

from typing import Dict, List, NamedTuple, Sequence

import numpy as np

from deploy.core.assignment import UNPAIRED, assign_pairs
from deploy.core.boxes import Detections, few_ious
from deploy.core.motion import Box, Motion, MotionRule, follow_box, predict_box, start_motion

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
        # In the order of their numbers: a track is put here once, with the highest so far.
        self._tracks: Dict[int, _Track] = {}
        self._next_id = 1

    def update(self, detections: Detections, *, time_s: float) -> TrackUpdate:
        """Join the detections of the frame at `time_s` to tracks. Call once a frame, in order.

        A detection joins only tracks of its class. Ties go to the older track, then to the earlier
        detection. Raises ValueError when the time runs backwards.
        """
        lost = self._drop_old(time_s)
        boxes, classes = detections.xyxy.tolist(), detections.class_id.tolist()
        numbers = self._join(boxes, classes, time_s)
        for index, number in enumerate(numbers):
            if number == 0:
                numbers[index] = number = self._next_id
                self._next_id += 1
            self._see(number, boxes[index], classes[index], time_s)
        return TrackUpdate(np.array(numbers, np.int64), lost)

    def flush(self) -> List[int]:
        """End all tracks, because the source has ended; return their numbers, ascending."""
        lost = list(self._tracks)
        self._tracks.clear()
        return lost

    def _see(self, number: int, xyxy: Sequence[float], class_id: int, time_s: float) -> None:
        track = self._tracks.get(number)
        if track is None:
            self._tracks[number] = _Track(start_motion(xyxy, time_s=time_s), class_id, 1)
        else:
            motion = follow_box(track.motion, xyxy, self.rule.motion, time_s=time_s)
            self._tracks[number] = _Track(motion, class_id, track.num_seen + 1)

    def _drop_old(self, time_s: float) -> List[int]:
        lost = []
        for number, track in self._tracks.items():
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

    def _join(
        self, boxes: Sequence[Sequence[float]], classes: Sequence[int], time_s: float
    ) -> List[int]:
        """Number of the track that each detection belongs to, 0 for a new hand."""
        numbers = [0] * len(boxes)
        if not boxes or not self._tracks:
            return numbers
        rule = self.rule.motion
        predicted = {
            number: predict_box(track.motion, rule, time_s=time_s)
            for number, track in self._tracks.items()
        }
        self._pair_inplace(numbers, predicted, boxes, classes, 0.0)
        if 0 in numbers:
            last = {number: track.motion.xyxy for number, track in self._tracks.items()}
            self._pair_inplace(numbers, last, boxes, classes, 0.0)
        if 0 in numbers:
            self._pair_inplace(numbers, predicted, boxes, classes, self.rule.reach)
        return numbers

    def _pair_inplace(
        self,
        numbers: List[int],
        places: Dict[int, Box],
        boxes: Sequence[Sequence[float]],
        classes: Sequence[int],
        reach: float,
    ) -> None:
        """Give detections without a track (0) one that has none, by the places of the tracks."""
        waiting = [number for number in places if number not in numbers]
        if not waiting:
            return
        free = [index for index, number in enumerate(numbers) if number == 0]
        scores = few_ious(
            [_widen(places[number], reach) for number in waiting],
            [_widen(boxes[index], reach) for index in free],
        )
        for number, row in zip(waiting, scores):
            class_id = self._tracks[number].class_id
            for place, index in enumerate(free):
                if classes[index] != class_id:
                    row[place] = 0.0
        pairs = assign_pairs(scores, least_score=self.rule.iou_threshold)
        for number, column in zip(waiting, pairs):
            if column != UNPAIRED:
                numbers[free[column]] = number


def _widen(xyxy: Sequence[float], reach: float) -> Sequence[float]:
    """A box about the same centre, larger by `reach` of its width and height."""
    if reach == 0:
        return xyxy
    left, top, right, bottom = xyxy
    x_margin, y_margin = (right - left) * (reach / 2), (bottom - top) * (reach / 2)
    return left - x_margin, top - y_margin, right + x_margin, bottom + y_margin
