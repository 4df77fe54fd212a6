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
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from deploy.core.smoother import Phase

SCHEMA_VERSION = 1


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
