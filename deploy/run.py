"""Turn a video or a camera into gesture events and annotated pictures.

    python -m deploy.run --source clip.mp4 --sink out.mp4 --sink events.jsonl

Sources: a video file, a folder of images, a camera (0 or /dev/video0), rtsp://. Sinks, any number:
NAME.mp4, .avi or .webm, FOLDER/ of pictures, NAME.jsonl or - (events), mqtt://HOST/TOPIC (events),
http://127.0.0.1:PORT (web page, /events, /healthz, /metrics), window.
Ctrl-C ends in order: open gestures are closed by `lost` events and files are finished.
"""

import argparse
import contextlib
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Sequence

from deploy.core.errors import DeployError, UserError
from deploy.health import Health
from deploy.latency import Latency
from deploy.options import add_engine_arguments, open_engines, positive
from deploy.pipeline import Pipeline
from deploy.present import presenting
from deploy.sink import Sinks, make_sinks
from deploy.source import Source, open_source, quiet_opencv, read_ahead
from deploy.telling import Teller

LOGGER = logging.getLogger(__name__)

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


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quiet_opencv()
    try:
        totals = run(args)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:  # before the first frame; later it ends the run in order
        return 130
    paths = ", ".join(args.sink) or "no sink"
    sys.stderr.write(
        f"run: {totals.frames} frames, {totals.fps:.1f} frames/s, {totals.events} events, "
        f"{totals.seconds:.1f} s -> {paths}\n"
    )
    return 0


def run(args: argparse.Namespace) -> Totals:
    """Open everything, run to the end of the source, and write the statistics."""
    latency, health = Latency(), Health()
    sinks = make_sinks(args.sink, health=health, latency=latency)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(open_source(args.source, fps=args.fps, health=health))
        engines = stack.enter_context(open_engines(args))
        if sinks.events and "gesture" not in engines:
            LOGGER.warning("no gesture model: hands are found, but no events are sent")
        pipeline = Pipeline(
            engines["detector"],
            engines.get("gesture"),
            source=source.uri,
            latency=latency,
            health=health,
            classify_every=args.classify_every,
        )
        totals = run_source(source, pipeline, sinks, max_frames=args.max_frames, health=health)
        infos = {name: engine.info() for name, engine in engines.items()}
    if args.stats:
        _write_stats(Path(args.stats), totals, infos, latency, args.source)
    return totals


def run_source(
    source: Source,
    pipeline: Pipeline,
    sinks: Sinks,
    *,
    max_frames: Optional[int] = None,
    health: Optional[Health] = None,
) -> Totals:
    """Feed a source through a pipeline into sinks, until it ends, a sink ends it, or a signal.

    A live source that gives no frame for SOURCE_DEADLINE_S loses its hands and may come back. A
    sink that fails is left while others go on; the end then raises its error.
    """
    started = time.perf_counter()
    num_frames = num_events = 0
    health = health or Health()
    teller = Teller(sinks.events, health)
    idle_s = SOURCE_DEADLINE_S if source.is_live else float("inf")
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(read_ahead(source))
        stack.enter_context(_on_signal(frames.interrupt))
        show = stack.enter_context(
            presenting(
                sinks.pictures,
                source.fps,
                pipeline.latency,
                health=health,
                is_live=source.is_live,
                has_events=bool(sinks.events),
            )
        )
        progress = _Progress()
        try:
            for frame in frames.poll(idle_s):
                if frame is None:
                    num_events += teller.write(pipeline.expire())
                    continue
                if num_frames == 0:
                    stack.callback(teller.close)
                    teller.start((frame.image.shape[1], frame.image.shape[0]), source.fps)
                result = pipeline.process(frame)
                num_frames += 1
                health.add_frame(frames.dropped)
                num_events += teller.write(result.events)
                progress.show(num_frames)
                if not show(frame, result.hands) or num_frames == max_frames:
                    break
        finally:
            num_events += teller.write(pipeline.finish())
            progress.clear()
    if teller.errors:
        raise teller.errors[0]
    return Totals(num_frames, num_events, frames.dropped, time.perf_counter() - started)


def _parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m deploy.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", required=True, metavar="URI", help="where frames come from")
    parser.add_argument(
        "--sink", action="append", default=[], metavar="URI", help="where results go; repeatable"
    )
    add_engine_arguments(parser)
    parser.add_argument("--fps", type=positive(float), help="frames/s of a folder of images")
    parser.add_argument("--max-frames", type=positive(int), metavar="N", help="stop after N")
    parser.add_argument(
        "--classify-every", type=positive(int), default=1, metavar="K", help="frames per look"
    )
    parser.add_argument("--stats", metavar="FILE.json", help="write latency percentiles per step")
    return parser.parse_args(argv)


def _write_stats(
    path: Path, totals: Totals, engines: Dict[str, Any], latency: Latency, source: str
) -> None:
    document = {
        "source": source,
        "frames": totals.frames,
        "events": totals.events,
        "dropped": totals.dropped,
        "seconds": round(totals.seconds, 4),
        "fps": round(totals.fps, 2),
        "engines": engines,
        "latency": latency.summary(),
    }
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DeployError(f"stats {path} cannot be written: {error.strerror}") from None


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


if __name__ == "__main__":
    sys.exit(main())
