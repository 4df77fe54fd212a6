"""Measure training speed with augmentation, and what each part of a step costs.

Run: python -m benchmarks.train --layers 10 --width 16 --input 320x192 --batch 16 (CPU, a minute),
or python -m benchmarks.train --layers 18 --width 64 --input 640x352 --batch 64 --images 4096 (a
GPU). Pictures are random, four boxes each. Prints one JSON object: images_per_s is the best epoch
of the real training loop (stages.detectnet.training.fit) after the first; parts_ms are medians
per batch.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from deploy.core.cluster import Postprocess
from stages.detectnet.augment import augment_batch
from stages.detectnet.config import FitConfig
from stages.detectnet.data import Samples
from stages.detectnet.feed import Feed, seeded
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.targets import rasterize_boxes
from stages.detectnet.training import fit

POSTPROCESS = Postprocess("nms", 0.05, 0.3, 1.0, 0.4, "max", 0.5, 4.0)
BOXES_PER_IMAGE = 4
REPEATS = 20


def main() -> int:
    """Parse arguments, measure, print JSON."""
    args = parse_arguments()
    input_wh = [int(side) for side in args.input.split("x")]
    samples = random_samples(args.images, input_wh)
    config = dataclasses.replace(
        FitConfig(), epochs=args.epochs, batch_size=args.batch, validate_every_epochs=0
    )
    architecture = build_architecture(args.layers, width=args.width, input_wh=input_wh)
    result = {
        "images_per_s": round(measure_loop(DetectNet(architecture), samples, config), 1),
        "parts_ms": measure_parts(samples, config),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        **vars(args),
    }
    sys.stdout.write(json.dumps(result, indent=1, sort_keys=True) + "\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--input", default="320x192", help="network input, WIDTHxHEIGHT")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args()


def random_samples(count: int, input_wh: list[int]) -> Samples:
    """Draw noise with boxes of 5 to 45 % of the picture's height."""
    rng = np.random.default_rng(0)
    width, height = input_wh
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    side = rng.uniform(0.05, 0.45, (count, BOXES_PER_IMAGE, 1)) * height
    corner = rng.uniform(0.0, 1.0, (count, BOXES_PER_IMAGE, 2)) * (np.array(input_wh) - side)
    boxes = np.concatenate([corner, corner + side], axis=2).astype(np.float32)
    stems = tuple(f"frame_{index}" for index in range(count))
    return Samples(stems, images, tuple(boxes), np.array([input_wh] * count))


def measure_loop(model: DetectNet, samples: Samples, config: FitConfig) -> float:
    """Train, and return the images per second of the fastest epoch after the first."""
    speeds: list[float] = []

    def log(metrics: Mapping[str, float], _epoch: int) -> None:
        speeds.append(metrics["train/images_per_s"])

    fit(model, samples, None, config, postprocess=POSTPROCESS, work_dir=None, log=log)
    return max(speeds[1:] or speeds)


def measure_parts(samples: Samples, config: FitConfig) -> dict[str, float]:
    """Time gathering, augmentation and target drawing of one batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    feed = Feed(samples, device=device)
    indices = torch.arange(config.batch_size) % len(samples)
    generator = seeded(0)
    batch = feed.batch(indices)
    wh = samples.input_wh
    return {
        "gather": time_call(lambda: feed.batch(indices)),
        "augment": time_call(lambda: augment_batch(batch, config.augment, generator)),
        "targets": time_call(
            lambda: rasterize_boxes(batch.boxes, batch.is_box, config.targets, input_wh=wh)
        ),
    }


def time_call(call: Callable[[], object]) -> float:
    """Median milliseconds of a call, device work included, after two to warm up."""
    times_ms = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times_ms.append((time.perf_counter() - started) * 1e3)
    return round(statistics.median(times_ms[2:]), 2)


if __name__ == "__main__":
    sys.exit(main())
