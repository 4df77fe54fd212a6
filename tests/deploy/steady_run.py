"""Run the whole runtime on drawn frames at a steady rate, for the test of its memory.

    python -m tests.deploy.steady_run --seconds 50 --fps 30 --out DIR --port 8080 [--models DIR]

As live as a camera: frames come at their times and are dropped when nobody is ready. Two hands
cross, change their gestures and leave, again and again, so that tracks and events come and go.
Sinks are events, a video and the web page. Without --models the engines are NumPy's.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

from deploy.health import Health
from deploy.latency import Latency
from deploy.pipeline import Pipeline
from deploy.run import run_source
from deploy.sink import make_sinks
from deploy.source import Frame
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

PERIOD = 90  # frames from one appearance of the hands to the next
SEEN = 66  # of these they are seen
GESTURES = ("fist", "stop", "ok")


class SteadySource:
    """Two hands at so many frames per second, for so many seconds."""

    is_live = True
    uri = "steady"

    def __init__(self, *, seconds, fps):
        self.fps = fps
        self._num_frames = int(seconds * fps)

    def frames(self):
        """Yield the frames at their times; one that is late comes at once."""
        started = time.perf_counter()
        for number in range(self._num_frames):
            due = started + number / self.fps
            time.sleep(max(due - time.perf_counter(), 0))
            now = time.perf_counter()
            yield Frame(draw_frame(place_hands(number)), number, now, now)

    def stop(self):
        """Nothing waits."""


def place_hands(number):
    """The hands of a frame, as draw_frame takes them: they cross once a period and then leave."""
    step = number % PERIOD
    if step >= SEEN:
        return []
    way = 440 * step // SEEN
    gestures = [GESTURES[(number // 22 + hand) % len(GESTURES)] for hand in (0, 1)]
    return [(gestures[0], way + 20, 40), (gestures[1], 480 - way, 200)]


@contextlib.contextmanager
def open_models(folder):
    """Open the model folders below `folder`, or plain NumPy without one."""
    if folder is None:
        yield numpy_detector(), numpy_classifier()
        return
    from deploy.engine import open_engine

    with open_engine(folder / "detector") as detector, open_engine(folder / "gesture") as gesture:
        yield detector, gesture


def main():
    """Run to the end; print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--fps", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--models", type=Path)
    args = parser.parse_args()
    latency, health = Latency(), Health()
    uris = [str(args.out / "events.jsonl"), str(args.out / "out.mp4")]
    uris.append(f"http://127.0.0.1:{args.port}")
    sinks = make_sinks(uris, health=health, latency=latency)
    with open_models(args.models) as (detector, classifier):
        pipeline = Pipeline(detector, classifier, latency=latency, health=health)
        source = SteadySource(seconds=args.seconds, fps=args.fps)
        totals = run_source(source, pipeline, sinks, health=health)
    sys.stdout.write(f"{totals.frames} {totals.events} {totals.dropped}\n")


if __name__ == "__main__":
    main()
