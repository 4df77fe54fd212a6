"""Hands that cross: simulated boxes of known hands, and the rule of overlap alone to compare with.

NumPy only, so that Python 3.6 runs it.
"""

import numpy as np

from deploy.core.boxes import Detections, box_iou
from deploy.core.tracker import TrackUpdate

FPS = 30.0


class OverlapTracker:
    """What deploy.core.tracker did before it knew motion: the largest overlap first, greedily."""

    def __init__(self, iou_threshold=0.2, max_gap_s=0.5):
        self.iou_threshold, self.max_gap_s = iou_threshold, max_gap_s
        self._tracks = {}
        self._next_id = 1

    def update(self, detections, *, time_s):
        lost = [n for n, (_, seen_s) in self._tracks.items() if time_s - seen_s > self.max_gap_s]
        for number in lost:
            del self._tracks[number]
        numbers = sorted(self._tracks)
        track_id = np.zeros(len(detections.xyxy), np.int64)
        if numbers and len(track_id):
            boxes = np.stack([self._tracks[number][0] for number in numbers])
            iou = box_iou(boxes, detections.xyxy)
            while iou.max() >= self.iou_threshold:
                row, column = np.unravel_index(iou.argmax(), iou.shape)
                track_id[column] = numbers[row]
                iou[row], iou[:, column] = -1, -1
        for index in np.flatnonzero(track_id == 0):
            track_id[index], self._next_id = self._next_id, self._next_id + 1
        for number, xyxy in zip(track_id, detections.xyxy):
            self._tracks[int(number)] = (xyxy, time_s)
        return TrackUpdate(track_id, lost)


def as_detections(boxes):
    """Detections of class 0 from a sequence of boxes."""
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.ones(len(xyxy), np.float32), np.zeros(len(xyxy), np.int64))


def simulate_crossing(rng, *, jitter=2.0, dropped=0.1, hidden_iou=0.5, fps=FPS):
    """Two hands that pass each other: a list of (hand numbers, boxes) a frame, shuffled.

    They meet in the picture's middle after a second, each from a side of its own. Edges jitter by
    `jitter` pixels, a share of the boxes is not found, and where the two overlap by more than
    hidden_iou the hand behind is not found.
    """
    extent = rng.uniform(80, 160, (2, 2))
    angle = rng.uniform(0, 2 * np.pi)
    apart = rng.uniform(0.6, 1.4) * np.pi  # between the two directions
    speed = rng.uniform(150, 500, 2)  # pixels per second
    heading = np.array([[np.cos(a), np.sin(a)] for a in (angle, angle + apart)])
    offset = rng.uniform(-15, 15, (2, 2))
    frames = []
    for index in range(int(2 * fps)):
        passed = index / fps - 1.0
        centre = np.array([640, 360]) + offset + heading * (speed * passed)[:, None]
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
        is_hidden = box_iou(boxes[:1], boxes[1:])[0, 0] > hidden_iou
        boxes = boxes + rng.normal(0, jitter, boxes.shape)
        seen = [hand for hand in (0, 1) if rng.uniform() >= dropped]
        if is_hidden and 0 in seen:
            seen = [1] if 1 in seen else [0]
        order = [seen[place] for place in rng.permutation(len(seen))]
        frames.append((order, boxes[order]))
    return frames


def count_switches(tracker, frames, *, fps=FPS):
    """How often a hand gets another number than it had; frames as simulate_crossing makes them."""
    number_of, switches = {}, 0
    for index, (hands, boxes) in enumerate(frames):
        track_id = tracker.update(as_detections(boxes), time_s=index / fps).track_id.tolist()
        for hand, number in zip(hands, track_id):
            switches += number_of.get(hand, number) != number
            number_of[hand] = number
    return switches
