"""How often hands that show no gesture begin one: the runtime's tracker and smoother over them.

Labelled frames of a data set are often seconds apart. Here they count as a tenth of a second
apart, so that what the classifier takes for a gesture in several frames on end counts as an event
that the robot would have seen.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.core.boxes import Detections, as_xyxy
from deploy.core.kitti import read_labels
from deploy.core.smoother import DEFAULT_RULE, Smoother
from deploy.core.tracker import Tracker

FRAME_S = 0.1


def frame_boxes(kitti: Path, names: Sequence[str]) -> np.ndarray:
    """Return the labelled boxes (N, 4) xyxy of crops named "<stem>#<row>", in frame pixels."""
    tables: dict[str, list[np.ndarray]] = {}
    boxes = []
    for name in names:
        stem, _, row = name.rpartition("#")
        if stem not in tables:
            labels = read_labels(str(kitti / "labels" / f"{stem}.txt"))
            tables[stem] = [np.array(label.bbox, np.float32) for label in labels]
        boxes.append(tables[stem][int(row)])
    return as_xyxy(np.array(boxes, np.float32))


def alarm_shares(
    names: Sequence[str], boxes: np.ndarray, probabilities: np.ndarray, *, idle: int
) -> dict[str, float]:
    """Return which share of hands is taken for a gesture, in one frame and after smoothing.

    names: "<stem>#<row>" of N hands of one video, whose frames are in the order of their stems;
    boxes: (N, 4) xyxy; probabilities: (N, C). false_alarms: the most probable class is none of
    `idle`; sure_alarms: and reaches the smoother's enter_threshold; smoothed_alarms: the smoother
    says of the hand's track that it is in a gesture. All are 0 for N = 0.
    """
    if not len(names):
        return dict.fromkeys(("false_alarms", "sure_alarms", "smoothed_alarms"), 0.0)
    best = probabilities.argmax(axis=1)
    is_gesture = best != idle
    is_sure = is_gesture & (probabilities.max(axis=1) >= DEFAULT_RULE.enter_threshold)
    smoothed = _smooth(names, boxes, probabilities, idle=idle)
    shares = {"false_alarms": is_gesture, "sure_alarms": is_sure, "smoothed_alarms": smoothed}
    return {name: round(float(flags.mean()), 4) for name, flags in shares.items()}


def _smooth(
    names: Sequence[str], boxes: np.ndarray, probabilities: np.ndarray, *, idle: int
) -> np.ndarray:
    """Whether each hand's track is in a gesture: (N,) bool."""
    stems = np.array([name.rpartition("#")[0] for name in names])
    tracker, smoother = Tracker(), Smoother([idle])
    is_in_gesture = np.zeros(len(names), bool)
    for frame, stem in enumerate(sorted(set(stems.tolist()))):
        hands = np.flatnonzero(stems == stem)
        ones, zeros = np.ones(len(hands), np.float32), np.zeros(len(hands), np.int64)
        update = tracker.update(Detections(boxes[hands], ones, zeros), time_s=frame * FRAME_S)
        for track in update.lost:
            smoother.lose(track)
        for hand, track in zip(hands, update.track_id.tolist(), strict=True):
            smoother.update(track, probabilities[hand], time_s=frame * FRAME_S)
            is_in_gesture[hand] = smoother.current(track) is not None
    return is_in_gesture
