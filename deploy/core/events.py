"""Gesture events as they are sent: one JSON object per line or message, schema 1.

| key | value |
|---|---|
| schema | 1 |
| time | seconds: from the start of a file (frame / rate), of the Unix epoch for a live source |
| source | the source's URI |
| frame | number of the frame, from 0 |
| track | number of the hand, from 1, for as long as it is followed |
| gesture | class name; null when lost |
| confidence | averaged probability in [0, 1]; null when lost |
| phase | begin, hold, end; lost: the hand or the source is gone, nothing of it holds any more |
| box | tight box [x_min, y_min, x_max, y_max] in pixels of the frame; null when lost |
| roi | the region that was classified, likewise; may reach outside the frame; null when lost |
| image_wh | [width, height] of the frame |
| latency_ms | from the frame's arrival to this event; the only value that differs between runs |
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from deploy.core.smoother import Change, Phase

SCHEMA_VERSION = 1
# Classes that mean "a hand, but no gesture"; they never begin an event.
IDLE_CLASSES = ("random",)


class GestureEvent(NamedTuple):
    """One event; see the module for the meaning of each field."""

    time: float
    source: str
    frame: int
    track: int
    gesture: Optional[str]
    confidence: Optional[float]
    phase: Phase
    box: Optional[Sequence[float]]
    roi: Optional[Sequence[float]]
    image_wh: Tuple[int, int]
    latency_ms: float


def idle_indices(classes: Sequence[str]) -> List[int]:
    """Return the indices of the classes that mean a hand, but no gesture."""
    return [index for index, name in enumerate(classes) if name in IDLE_CLASSES]


def change_event(
    change: Change,
    *,
    classes: Sequence[str],
    time: float,
    source: str,
    frame: int,
    track: int,
    box: Optional[np.ndarray],
    roi: Optional[np.ndarray],
    image_wh: Tuple[int, int],
    latency_ms: float,
) -> GestureEvent:
    """Make the event of a smoother's change; box and roi (4,) in pixels, unused when lost."""
    if change.phase is Phase.LOST:
        return lost_event(
            time=time,
            source=source,
            frame=frame,
            track=track,
            image_wh=image_wh,
            latency_ms=latency_ms,
        )
    return GestureEvent(
        time=time,
        source=source,
        frame=frame,
        track=track,
        gesture=classes[change.class_id],
        confidence=change.confidence,
        phase=change.phase,
        box=None if box is None else box.tolist(),
        roi=None if roi is None else roi.tolist(),
        image_wh=image_wh,
        latency_ms=latency_ms,
    )


def lost_event(
    *,
    time: float,
    source: str,
    frame: int,
    track: int,
    image_wh: Tuple[int, int],
    latency_ms: float,
) -> GestureEvent:
    """Make the event that closes a gesture whose hand or source is gone."""
    return GestureEvent(
        time, source, frame, track, None, None, Phase.LOST, None, None, image_wh, latency_ms
    )


def to_document(event: GestureEvent) -> Dict[str, Any]:
    """Return the JSON value of an event, in the order of the schema, with short numbers."""
    document: Dict[str, Any] = {"schema": SCHEMA_VERSION}
    document.update(event._asdict())
    document.update(
        time=round(float(event.time), 6),
        confidence=None if event.confidence is None else round(float(event.confidence), 4),
        phase=event.phase.value,
        box=_round_box(event.box),
        roi=_round_box(event.roi),
        image_wh=[int(extent) for extent in event.image_wh],
        latency_ms=round(float(event.latency_ms), 2),
    )
    return document


def format_event(event: GestureEvent) -> str:
    """Return an event as one line of JSON, without the line's end."""
    return json.dumps(to_document(event), ensure_ascii=False, allow_nan=False)


def _round_box(box: Optional[Sequence[float]]) -> Optional[Sequence[float]]:
    return None if box is None else [round(float(edge), 2) for edge in box]
