"""Write events to every sink; one that fails is left, and the others go on."""

from typing import List, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.health import Health
from deploy.sink import AnyEventSink


class Teller:
    """The event sinks of a run; errors holds what those that failed raised."""

    def __init__(self, sinks: Sequence[AnyEventSink], health: Health) -> None:
        self.errors: List[DeployError] = []
        self._sinks = list(sinks)
        self._health = health

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Open the sinks. Raises DeployError, because nothing has begun that could go on."""
        for sink in self._sinks:
            sink.start(image_wh, fps)

    def write(self, events: Sequence[GestureEvent]) -> int:
        """Write events, in order; return their number. Raises when the last sink has failed."""
        for event in events:
            self._health.add_event(event.phase.value)
            for sink in list(self._sinks):
                self._write_one(sink, event)
        return len(events)

    def close(self) -> None:
        """Close the sinks that are left."""
        for sink in self._sinks:
            sink.close()

    def _write_one(self, sink: AnyEventSink, event: GestureEvent) -> None:
        try:
            sink.write(event)
        except DeployError as error:
            self._sinks.remove(sink)
            sink.close()
            if not self._sinks:
                raise
            self.errors.append(error)
            self._health.fault("sink", f"{error}; the other sinks go on")
