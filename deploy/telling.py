"""Write events to every sink; one that fails is left, and the others go on."""

import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, lost_event
from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.sink import AnyEventSink


class Teller:
    """The event sinks of a run; errors holds what those that failed raised.

    also: are given every event, before the sinks. Any thread may call write and lose_all.
    """

    def __init__(
        self,
        sinks: Sequence[AnyEventSink],
        health: Health,
        *,
        also: Sequence[Callable[[GestureEvent], None]] = (),
    ) -> None:
        self.errors: List[DeployError] = []
        self.num_events = 0
        self._last_error: Optional[DeployError] = None
        self._sinks = list(sinks)
        self._health = health
        self._also = also
        self._lock = threading.Lock()
        # Of each track that is in a gesture: its latest event, and when that was told.
        self._active: Dict[int, Tuple[GestureEvent, float]] = {}

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Open the sinks. Raises DeployError, because nothing has begun that could go on."""
        for sink in self._sinks:
            sink.start(image_wh, fps)

    def write(self, events: Sequence[GestureEvent]) -> None:
        """Write events, in order. Raises DeployError, once, when the last sink has failed."""
        with self._lock:
            for event in events:
                self._write_event(event)
            if self._last_error is not None:
                error, self._last_error = self._last_error, None
                raise error

    def lose_all(self) -> None:
        """Tell `lost` for every gesture that is on, because the frames hang.

        What fails here is raised by the next `write`: the watchdog's thread has nobody to tell.
        """
        with self._lock:
            for event, told_s in list(self._active.values()):
                silent_s = time.monotonic() - told_s
                lost = lost_event(
                    time=event.time + silent_s,
                    source=event.source,
                    frame=event.frame,
                    track=event.track,
                    image_wh=event.image_wh,
                    latency_ms=silent_s * 1e3,
                )
                self._write_event(lost)

    def close(self) -> None:
        """Close the sinks that are left."""
        for sink in self._sinks:
            sink.close()

    def _write_event(self, event: GestureEvent) -> None:
        if event.phase in (Phase.END, Phase.LOST):
            self._active.pop(event.track, None)
        else:
            self._active[event.track] = (event, time.monotonic())
        self._health.add_event(event.phase.value)
        self.num_events += 1
        for take in self._also:
            take(event)
        for sink in list(self._sinks):
            self._write_one(sink, event)

    def _write_one(self, sink: AnyEventSink, event: GestureEvent) -> None:
        try:
            sink.write(event)
        except DeployError as error:
            self._sinks.remove(sink)
            sink.close()
            if not self._sinks:
                self._last_error = error
                return
            self.errors.append(error)
            self._health.fault("sink", f"{error}; the other sinks go on")
