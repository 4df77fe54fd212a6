"""The loop of a run: frames from a source through a pipeline into sinks, and everything's end."""

import contextlib
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from deploy.channel import Channel
from deploy.commanding import CommandDriver
from deploy.core.commands import CommandRule
from deploy.core.errors import DeployError
from deploy.health import Health
from deploy.pipeline import Pipeline
from deploy.present import Show, presenting
from deploy.recording import Recorder
from deploy.sink import Sinks
from deploy.source import Source, read_ahead
from deploy.telling import Teller
from deploy.watchdog import watching

PROGRESS_INTERVAL_S = 0.5
# No frame of a live source for this long: hands are lost. As long as the tracker waits for a hand.
SOURCE_DEADLINE_S = 0.5


class Totals(NamedTuple):
    """What a run did; dropped counts the frames of a live source that nobody had time for."""

    frames: int
    events: int
    dropped: int
    seconds: float

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, models' loading left out."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def run_source(
    source: Source,
    pipeline: Pipeline,
    sinks: Sinks,
    *,
    rule: Optional[CommandRule] = None,
    recorder: Optional[Recorder] = None,
    max_frames: Optional[int] = None,
    deadline_s: float = SOURCE_DEADLINE_S,
    health: Optional[Health] = None,
) -> Totals:
    """Feed a source through a pipeline into sinks, until it ends, a sink ends it, or a signal.

    A live source that gives no frame for deadline_s, or a frame of it that takes longer, loses its
    hands and may come back. A sink that fails is left while others go on; the end then raises its
    error. rule: drives sinks.commands; recorder: gets every frame and event.
    """
    started = time.perf_counter()
    health = health or Health()
    driver = CommandDriver(rule, sinks.commands, health) if rule is not None else None
    also = [part for part in (driver and driver.take, recorder and recorder.note) if part]
    teller = Teller(sinks.events, health, also=also)
    pictures = [*sinks.pictures, recorder] if recorder is not None else sinks.pictures
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(
            read_ahead(source, prepare=pipeline.prepare, lend=pipeline.lend_image)
        )
        stack.enter_context(_on_signal(frames.interrupt))
        show = stack.enter_context(
            presenting(
                pictures,
                source.fps,
                pipeline.latency,
                health=health,
                is_live=source.is_live,
                has_events=bool(sinks.events or driver),
            )
        )

        def begin(image_wh: Any) -> None:
            stack.callback(teller.close)
            teller.start(image_wh, source.fps)
            if driver is not None:
                stack.callback(driver.close)
                driver.start()

        idle_s = deadline_s if source.is_live else float("inf")
        loop = _Loop(pipeline, teller, health, idle_s, max_frames, is_live=source.is_live)
        try:
            loop.run(frames, begin, show)
        finally:
            teller.write(pipeline.finish())
    errors: List[DeployError] = teller.errors + (driver.errors if driver else [])
    if errors:
        raise errors[0]
    seconds = time.perf_counter() - started
    return Totals(loop.num_frames, teller.num_events, frames.dropped, seconds)


class _Loop:
    """Frames into the pipeline, on the calling thread."""

    def __init__(
        self,
        pipeline: Pipeline,
        teller: Teller,
        health: Health,
        idle_s: float,
        max_frames: Optional[int],
        *,
        is_live: bool,
    ) -> None:
        self.num_frames = 0
        self._pipeline = pipeline
        self._teller = teller
        self._health = health
        self._idle_s = idle_s
        self._max_frames = max_frames
        self._is_live = is_live
        self._told_s = 0.0

    def run(self, frames: Channel, begin: Callable[[Any], None], show: Show) -> None:
        """Until the frames end, max_frames are done, or `show` is False."""
        progress = _Progress()
        try:
            with watching(self._idle_s, self._on_late) as watchdog:
                for frame in frames.poll(self._idle_s):
                    if frame is None:
                        self._teller.write(self._pipeline.expire())
                        continue
                    if self.num_frames == 0:
                        begin((frame.image.shape[1], frame.image.shape[0]))
                    with watchdog.guard() as is_late:
                        result = self._pipeline.process(frame, frames.claim, is_live=self._is_live)
                    self._measure_period()
                    self.num_frames += 1
                    self._health.add_frame(frames.dropped)
                    if is_late():
                        # All gestures are told lost already: what the frame gave is too old.
                        self._pipeline.expire()
                    else:
                        self._health.recover("slow", "frames are done in time again")
                        self._teller.write(result.events)
                    progress.show(self.num_frames)
                    if not show(frame, result.hands) or self.num_frames == self._max_frames:
                        break
        finally:
            progress.clear()

    def _measure_period(self) -> None:
        """Record the time between one result and the next; a live source's is its camera's."""
        now_s = time.perf_counter()
        if self.num_frames > 0 and not self._is_live:
            self._pipeline.latency.add("period", (now_s - self._told_s) * 1e3)
        self._told_s = now_s

    def _on_late(self) -> None:
        self._health.fault(
            "slow", f"a frame takes longer than {self._idle_s * 1e3:g} ms; its gestures are lost"
        )
        self._teller.lose_all()


@contextlib.contextmanager
def _on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGINT or SIGTERM; a second one acts as usual."""
    previous: Dict[int, Any] = {}

    def handle(number: int, stack: Any) -> None:
        signal.signal(number, previous[number])
        stop()

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        previous[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Progress:
    """A counter on standard error, on a terminal only."""

    def __init__(self) -> None:
        self._shown_s = time.perf_counter() if sys.stderr.isatty() else float("inf")

    def show(self, num_frames: int) -> None:
        if time.perf_counter() - self._shown_s > PROGRESS_INTERVAL_S:
            self._shown_s = time.perf_counter()
            sys.stderr.write(f"\r{num_frames} frames ")

    def clear(self) -> None:
        if self._shown_s != float("inf"):
            sys.stderr.write("\r\033[K")
