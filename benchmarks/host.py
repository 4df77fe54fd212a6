"""Measure what a frame costs the processor beside its engines.

Run: python -m benchmarks.host [--hands 0 1 3] [--frames 1000] (seconds; needs NumPy and OpenCV
alone). A GPU does its part of a frame in half a millisecond, and then this is what holds a run.
The maps are drawn ones of a 960x544 detector in which hands move beside each other, ten confident
cells each; the engines answer with them at once. Prints a Markdown table of median microseconds by
the number of hands: two steps, the whole of Pipeline.process with gestures and without them, and
the time between two results of run_source, whose reading thread wants its part of the interpreter.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from deploy.core.model_json import ModelInfo
from deploy.core.preprocess import Preprocess
from deploy.core.roi import RoiRule
from deploy.pipeline import Pipeline
from deploy.running import run_source
from deploy.sink import Sinks
from deploy.source import Frame

FPS = 30.0
INPUT_WH, IMAGE_WH = (960, 544), (1280, 720)
STRIDE, SCALE, OFFSET = Grid()
GRID_WH = (INPUT_WH[0] // STRIDE, INPUT_WH[1] // STRIDE)
CLASSES = ("fist", "stop", "ok", "random")
# As conf/postprocess/default.yaml says.
CONSTANTS = Postprocess("nms", 0.05, 0.3, 1.0, 0.6, "max", 0.8, 4.0)
DETECTOR = ModelInfo(
    kind="detector",
    name="drawn",
    files={},
    input_name="input",
    input_shape=(3, INPUT_WH[1], INPUT_WH[0]),
    outputs={"cover": (1, *GRID_WH[::-1]), "boxes": (4, *GRID_WH[::-1])},
    preprocess=Preprocess(),
    classes=("hand",),
    grid=Grid(),
    postprocess=CONSTANTS,
)
CLASSIFIER = ModelInfo(
    kind="classifier",
    name="drawn",
    files={},
    input_name="input",
    input_shape=(3, 160, 160),
    outputs={"classes": (len(CLASSES),)},
    preprocess=Preprocess(),
    classes=CLASSES,
    roi=RoiRule(),
)
# Outlines of the hands, in network-input pixels, and how far they move to and fro.
EXTENT, APART, WAY = 100.0, 180.0, 60
# Cells whose centres are this near to a hand's are confident, as a part of its half extent.
CONFIDENT = 0.55
MAX_HANDS = 15
STEPS = ("cluster", "track")

Maps = dict[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every number of hands and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.host",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--hands", type=int, nargs="+", default=[0, 1, 3], help=f"0 to {MAX_HANDS}"
    )
    parser.add_argument("--frames", type=int, default=1000)
    args = parser.parse_args(argv)
    if not all(0 <= num <= MAX_HANDS for num in args.hands):
        parser.error(f"--hands {args.hands}; expected 0 to {MAX_HANDS}")
    columns = []
    for num_hands in args.hands:
        maps = [draw_maps(num_hands, number) for number in range(args.frames)]
        alone = {"process, no gestures": time_frames(maps, None)["process"]}
        columns.append({**time_frames(maps, make_classifier()), **alone, **time_run(maps)})
    sys.stdout.write("| step | " + " | ".join(f"{num} hands" for num in args.hands) + " |\n")
    sys.stdout.write("|---|" + "---:|" * len(args.hands) + "\n")
    for step in columns[0]:
        cells = [f"{column[step]:.1f}" for column in columns]
        sys.stdout.write(f"| {step} | " + " | ".join(cells) + " |\n")
    return 0


def draw_maps(num_hands: int, number: int) -> Maps:
    """The detector's maps for a frame: hands side by side that move to and fro."""
    width, height = GRID_WH
    coverage = np.zeros((height, width), np.float32)
    bbox = np.zeros((4, height, width), np.float32)
    y, x = np.mgrid[:height, :width] * np.float64(STRIDE) + OFFSET
    moved = abs(number % (2 * WAY) - WAY)
    for hand in range(num_hands):
        left, top = 20.0 + hand % 5 * APART + moved, 10.0 + hand // 5 * APART
        right, bottom = left + EXTENT, top + EXTENT
        away = np.hypot(x - (left + right) / 2, y - (top + bottom) / 2) / (EXTENT / 2)
        mine = away < 1
        coverage[mine] = np.where(away < CONFIDENT, 1 - away / 4, 0.5)[mine]
        distances = np.stack([x - left, y - top, right - x, bottom - y]) / SCALE
        bbox[:, mine] = distances[:, mine]
    return {"cover": coverage[None, None], "boxes": bbox[None]}


def time_frames(maps: Sequence[Maps], classifier: Instant | None) -> dict[str, float]:
    """Median microseconds of a frame in Pipeline.process, and of the steps that it tells of."""
    pipeline = Pipeline(make_detector(maps), classifier)
    times = []
    for frame in make_frames(len(maps)):
        started = time.perf_counter()
        pipeline.process(frame)
        times.append(time.perf_counter() - started)
    summary = pipeline.latency.summary()
    steps = {step: summary[step]["p50_ms"] * 1e3 for step in STEPS}
    return {**steps, "process": statistics.median(times) * 1e6}


def time_run(maps: Sequence[Maps]) -> dict[str, float]:
    """Median microseconds between two results of run_source."""
    pipeline = Pipeline(make_detector(maps), make_classifier())
    run_source(Memory(len(maps)), pipeline, Sinks([], []))  # type: ignore[arg-type]
    return {"run_source": pipeline.latency.summary()["period"]["p50_ms"] * 1e3}


class Instant:
    """An engine that takes frames and answers at once; answer: from the number of regions."""

    takes_frames = True

    def __init__(self, model: ModelInfo, answer: Callable[[int], Maps]) -> None:
        self.model = model
        self._answer = answer
        self._waiting: list[int] = []

    def lend_image(self, shape: Sequence[int]) -> None:
        """Have no memory of its own."""

    def upload(self, image: np.ndarray) -> np.ndarray:
        """Leave the image where it is."""
        return image

    def put_frame(self, image: np.ndarray, regions: np.ndarray | None = None) -> None:
        """Note how many answers are wanted."""
        self._waiting.append(1 if regions is None else len(regions))

    def run_frame(self) -> Maps:
        """Answer for the oldest frame."""
        return self._answer(self._waiting.pop(0))


def make_detector(maps: Sequence[Maps]) -> Instant:
    """Make an engine that answers with the maps, one after the other."""
    waiting = iter(maps)
    return Instant(DETECTOR, lambda num: next(waiting))


def make_classifier() -> Instant:
    """Make an engine that sees a fist everywhere."""
    rows = np.tile(np.array([0.9, 0.05, 0.03, 0.02], np.float32), (MAX_HANDS, 1))
    return Instant(CLASSIFIER, lambda num: {"classes": rows[:num]})


class Memory:
    """A source of so many black frames that are there at once."""

    is_live = False
    fps = FPS
    uri = "memory"

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames

    def frames(self, lend: object) -> Iterator[Frame]:
        """Yield the frames; nothing is decoded."""
        yield from make_frames(self._num_frames)

    def stop(self) -> None:
        """Nothing waits."""


def make_frames(num: int) -> Iterator[Frame]:
    """Yield frames that share one picture."""
    image = np.zeros((IMAGE_WH[1], IMAGE_WH[0], 3), np.uint8)
    for number in range(num):
        yield Frame(image, number, number / FPS, time.perf_counter())


if __name__ == "__main__":
    sys.exit(main())
