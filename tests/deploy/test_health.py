"""Counts of a run: a fault is said once while it lasts, and counted every time."""

import logging

from deploy.health import Health


def test_fault_is_said_once_until_it_is_over(caplog):
    caplog.set_level(logging.INFO)
    health = Health()
    for _ in range(3):
        health.fault("source", "gone")
    health.recover("source", "back")
    health.recover("source", "back")
    health.fault("source", "gone")
    assert [record.message for record in caplog.records] == ["gone", "back", "gone"]
    assert health.snapshot().faults == {"source": 4}
    assert health.snapshot().ongoing == {"source"}


def test_frames_and_events_are_counted():
    health = Health()
    assert health.snapshot().idle_s is None
    health.add_frame(0)
    health.add_frame(3)
    for phase in ("begin", "lost", "begin"):
        health.add_event(phase)
    seen = health.snapshot()
    assert (seen.frames, seen.dropped, seen.events) == (2, 3, {"begin": 2, "lost": 1})
    assert 0 <= seen.idle_s <= seen.seconds
