"""The event as JSON: keys and their order, rounding, and what is null when lost."""

import json

import numpy as np
import pytest

from deploy.core.events import GestureEvent, format_event, lost_event, to_document
from deploy.core.smoother import Phase

KEYS = [
    "schema",
    "time",
    "source",
    "frame",
    "track",
    "gesture",
    "confidence",
    "phase",
    "box",
    "roi",
    "image_wh",
    "latency_ms",
]
BOX = np.array([1.23456, 2, 3, 4], np.float32)


def event(**changes):
    made = GestureEvent(
        1 / 3, "clip.mp4", 10, 1, "fist", 0.98765, Phase.BEGIN, BOX, -BOX, (1280, 720), 12.3456
    )
    return made._replace(**changes)


def test_document_has_the_keys_of_the_schema_in_order():
    assert list(to_document(event())) == KEYS
    assert list(json.loads(format_event(event()))) == KEYS


def test_numbers_are_short_plain_json():
    assert json.loads(format_event(event())) == {
        "schema": 1,
        "time": 0.333333,
        "source": "clip.mp4",
        "frame": 10,
        "track": 1,
        "gesture": "fist",
        "confidence": 0.9877,
        "phase": "begin",
        "box": [1.23, 2.0, 3.0, 4.0],
        "roi": [-1.23, -2.0, -3.0, -4.0],
        "image_wh": [1280, 720],
        "latency_ms": 12.35,
    }


def test_event_is_one_line_whatever_the_source_is_called():
    line = format_event(event(source="my\nclip \u00fc.mp4"))
    assert "\n" not in line
    assert json.loads(line)["source"] == "my\nclip \u00fc.mp4"


def test_lost_has_no_gesture_and_no_box():
    lost = to_document(
        lost_event(time=1.0, source="0", frame=9, track=3, image_wh=(64, 48), latency_ms=0.0)
    )
    assert lost["phase"] == "lost"
    assert [lost[key] for key in ("gesture", "confidence", "box", "roi")] == [None] * 4
    assert list(lost) == KEYS


def test_nan_is_refused_because_it_is_not_json():
    with pytest.raises(ValueError, match="JSON"):
        format_event(event(confidence=float("nan")))
