"""Count how often hands of drawn videos change their track's number, before and after motion.

Run: python -m benchmarks.tracking [--videos 25] (a minute). Draws videos of gestures and of people
at work at a table, 60 frames each at 30 frames/s, and feeds the boxes of their labels to the
tracker, shuffled in each frame: what is counted is the tracker's alone and no detector's. Hands
that others hide are no label, as they would be no detection. "Overlap alone" is the rule that the
tracker replaces. Prints a Markdown table: switches by the share of boxes left out and the edges'
jitter, as a part of the box, and how many of them gave a hand the number of another one. Then the
median time of a frame, by the number of hands.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from deploy.core.tracker import Tracker
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.video import render_frames
from tests.deploy.core.crossings import OverlapTracker, as_detections

FPS = 30.0
NUM_FRAMES = 60
DRAWN_WH = (320, 180)  # boxes alone count: a small picture is drawn sooner
KINDS = {"gestures": 0.0, "work at a table": 1.0}  # name: table_work_frac

Video = list[tuple[list[str], np.ndarray]]  # per frame the hands' names and boxes (N, 4)


class Noise(NamedTuple):
    """dropped: share of the boxes; jitter: of the edges, as a part of width and height."""

    dropped: float
    jitter: float
    step: int = 1  # every so many frames


NOISES = (Noise(0.0, 0.0), Noise(0.1, 0.03), Noise(0.3, 0.05), Noise(0.1, 0.03, step=3))


class Switches(NamedTuple):
    """How often a hand's number changed, and how often to one that another hand had had."""

    all: int
    taken: int


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, track and print; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tracking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--videos", type=int, default=25, help="of each kind")
    args = parser.parse_args(argv)
    sys.stdout.write("| videos | left out | jitter | frames/s | overlap alone | tracker |\n")
    sys.stdout.write("|---|---:|---:|---:|---:|---:|\n")
    for kind, share in KINDS.items():
        videos = [draw_boxes(number, table_work_frac=share) for number in range(args.videos)]
        for noise in NOISES:
            cells = [f"{args.videos} of {kind}", f"{noise.dropped:.0%}", f"{noise.jitter:.0%}"]
            cells.append(f"{FPS / noise.step:.0f}")
            for make in (OverlapTracker, Tracker):
                found = count_all(make, videos, noise)
                cells.append(f"{found.all} ({found.taken} taken)")
            sys.stdout.write("| " + " | ".join(cells) + " |\n")
    for num_hands in (1, 2, 4, 8):
        times = [f"{time_ms(make, num_hands):.3f}" for make in (OverlapTracker, Tracker)]
        sys.stdout.write(f"{num_hands} hands: {times[0]} ms by overlap alone, {times[1]} ms\n")
    return 0


def draw_boxes(number: int, *, table_work_frac: float) -> Video:
    """Draw a video; return the boxes of its labels."""
    config = RenderConfig(
        image_wh=list(DRAWN_WH), frames_per_video=NUM_FRAMES, table_work_frac=table_work_frac
    )
    scene, rng = open_scene(Job(config, "test", number, ""))
    video = []
    for frame in render_frames(scene, rng, config):
        corners = [np.concatenate([h.outline.min(0), h.outline.max(0)]) for h in frame.hands]
        video.append(([hand.field for hand in frame.hands], np.array(corners).reshape(-1, 4)))
    return video


def count_all(make: Callable[[], Any], videos: Sequence[Video], noise: Noise) -> Switches:
    """Sum of the switches of all videos; the noise of a video is the same for every tracker."""
    counts = [
        count(make(), disturb(video, noise, np.random.default_rng(number)), FPS / noise.step)
        for number, video in enumerate(videos)
    ]
    return Switches(sum(one.all for one in counts), sum(one.taken for one in counts))


def disturb(
    video: Video, noise: Noise, rng: np.random.Generator
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Leave out and jitter boxes, and shuffle those of each frame."""
    for names, boxes in video[:: noise.step]:
        kept = [n for n in rng.permutation(len(names)) if rng.uniform() >= noise.dropped]
        extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moved = boxes + rng.normal(0.0, noise.jitter, boxes.shape) * extent
        yield [names[n] for n in kept], moved[kept]


def count(tracker: Any, frames: Iterator[tuple[list[str], np.ndarray]], fps: float) -> Switches:
    """Follow the frames' boxes and compare each hand's number with the one it had."""
    number_of: dict[str, int] = {}
    owner_of: dict[int, str] = {}
    switches = taken = 0
    for index, (names, boxes) in enumerate(frames):
        track_id = tracker.update(as_detections(boxes), time_s=index / fps).track_id.tolist()
        for name, number in zip(names, track_id, strict=True):
            if number_of.get(name, number) != number:
                switches += 1
                taken += number in owner_of
        for name, number in zip(names, track_id, strict=True):
            number_of[name], owner_of[number] = number, name
    return Switches(switches, taken)


def time_ms(make: Callable[[], Any], num_hands: int, *, num_frames: int = 600) -> float:
    """Median time of a frame with so many hands that move beside each other."""
    rng = np.random.default_rng(0)
    tracker = make()
    corner = np.stack([np.arange(num_hands) % 4 * 250.0, np.arange(num_hands) // 4 * 150.0], 1)
    times = []
    for index in range(num_frames):
        moved = corner + 3.0 * (index % 60) + rng.normal(0.0, 1.5, corner.shape)
        detections = as_detections(np.concatenate([moved, moved + 120.0], axis=1))
        started = time.perf_counter()
        tracker.update(detections, time_s=index / FPS)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


if __name__ == "__main__":
    sys.exit(main())
