"""Measure deploy.run on a drawn 1280x720 clip: frames per second and where a frame's time goes.

Run: python -m benchmarks.runtime --detector models/export --gesture models/gesture (half a
minute, after make repro). The clip is encoded as mp4; decoding counts. Prints one JSON object:
medians over the runs, with events alone and with an annotated video as well.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.video import render_frames

FPS = 30.0


def main() -> int:
    """Draw the clip, run the runtime on it several times, print JSON."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        draw_clip(clip, num_frames=args.frames)
        sinks = {"events": ["events.jsonl"], "events_and_video": ["events.jsonl", "out.mp4"]}
        runs = {
            name: [
                run_once(args, clip, [clip.with_name(s) for s in one]) for _ in range(args.runs)
            ]
            for name, one in sinks.items()
        }
    result = {name: summarise(stats) for name, stats in runs.items()}
    sys.stdout.write(json.dumps({**result, "frames": args.frames, "runs": args.runs}, indent=1))
    sys.stdout.write("\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="models/export", metavar="DIR")
    parser.add_argument("--gesture", default="models/gesture", metavar="DIR")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def draw_clip(path: Path, *, num_frames: int) -> None:
    """Write one drawn test video of two people's hands as mp4."""
    config = RenderConfig(image_wh=[1280, 720], frames_per_video=num_frames)
    scene, generator = open_scene(Job(config, "test", 1, ""))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (1280, 720))
    for frame in render_frames(scene, generator, config):
        writer.write(np.ascontiguousarray(frame.image))
    writer.release()


def run_once(args: argparse.Namespace, clip: Path, sinks: list[Path]) -> dict:
    """Run deploy.run in a process of its own and return its statistics."""
    stats = clip.with_name("stats.json")
    command = [sys.executable, "-m", "deploy.run", "--source", str(clip), "--stats", str(stats)]
    command += ["--detector", args.detector, "--gesture", args.gesture]
    for sink in sinks:
        command += ["--sink", str(sink)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return json.loads(stats.read_text())


def summarise(stats: list[dict]) -> dict:
    """Median frames per second with the range, and the median p50 of each step in ms."""
    rates = [one["fps"] for one in stats]
    steps = stats[0]["latency"]
    p50 = {
        step: round(statistics.median(one["latency"][step]["p50_ms"] for one in stats), 2)
        for step in steps
    }
    return {
        "fps_median": statistics.median(rates),
        "fps_range": [min(rates), max(rates)],
        "p50_ms": p50,
    }


if __name__ == "__main__":
    sys.exit(main())
