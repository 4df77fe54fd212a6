"""The state of a run that is asked for from outside: counts, faults, the source.

A fault is what the program survives: a camera that is gone, a network that gives NaN. It is said
once when it begins and once when it is over, and counted every time.
"""

import collections
import logging
import threading
import time
from typing import Dict, NamedTuple, Optional, Set

LOGGER = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """Counts since the start; fps: of the whole run; idle_s: since the last frame, if any."""

    frames: int
    dropped: int
    events: Dict[str, int]
    faults: Dict[str, int]
    ongoing: Set[str]
    seconds: float
    idle_s: Optional[float]


class Health:
    """Counts of one run; every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started_s = time.perf_counter()
        self._last_frame_s: Optional[float] = None
        self._frames = 0
        self._dropped = 0
        self._events: Dict[str, int] = collections.Counter()
        self._faults: Dict[str, int] = collections.Counter()
        self._ongoing: Set[str] = set()

    def add_frame(self, dropped: int = 0) -> None:
        """Count a processed frame; dropped: frames that the source has dropped so far."""
        with self._lock:
            self._frames += 1
            self._dropped = dropped
            self._last_frame_s = time.perf_counter()

    def add_event(self, phase: str) -> None:
        """Count an event of a phase."""
        with self._lock:
            self._events[phase] += 1

    def fault(self, kind: str, message: str) -> None:
        """Count a fault, and say it unless it is known and not over."""
        with self._lock:
            self._faults[kind] += 1
            is_new = kind not in self._ongoing
            self._ongoing.add(kind)
        if is_new:
            LOGGER.warning("%s", message)

    def recover(self, kind: str, message: str) -> None:
        """Say that a fault is over; nothing where there is none."""
        with self._lock:
            is_known = kind in self._ongoing
            self._ongoing.discard(kind)
        if is_known:
            LOGGER.info("%s", message)

    def snapshot(self) -> Snapshot:
        """Return a consistent copy of everything."""
        now = time.perf_counter()
        with self._lock:
            return Snapshot(
                frames=self._frames,
                dropped=self._dropped,
                events=dict(self._events),
                faults=dict(self._faults),
                ongoing=set(self._ongoing),
                seconds=now - self._started_s,
                idle_s=None if self._last_frame_s is None else now - self._last_frame_s,
            )
