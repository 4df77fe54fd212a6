"""Measure one training: a model, a batch size, a number of devices.

Run by benchmarks/train.py: python -m benchmarks.train_point '{"layers": 10, ...}' OUT.json. On
several devices Fabric starts this command again for each; the first writes the file. Ends with
status 1 and one line for what a person can mend, such as a batch that does not fit.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.drawn import list_stems
from deploy.core.cluster import Postprocess
from deploy.core.errors import UserError
from stages.detectnet.augment import augment_batch
from stages.detectnet.config import FitConfig
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.feed import Feed, count_steps, seeded
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.targets import rasterize_boxes
from stages.detectnet.training import FitResult, fit

# The default of conf/postprocess.
POSTPROCESS = Postprocess("nms", 0.05, 0.3, 1.0, 0.6, "max", 0.8, 4.0)
BOXES_PER_IMAGE = 4
REPEATS = 20


@dataclass(frozen=True)
class Point:
    """What is measured.

    batch_size: per device. kitti: a folder of drawn hands to train on until target_ap50, or "":
    the speed alone, on `images` random pictures.
    """

    layers: int
    width: int
    input_wh: list[int]
    images: int
    epochs: int
    devices: int = 1
    batch_size: int = 16
    kitti: str = ""
    target_ap50: float = 0.0


def main() -> int:
    """Measure the point of the command line and write what the first process found."""
    point, out = Point(**json.loads(sys.argv[1])), Path(sys.argv[2])
    try:
        found = time_to_target(point) if point.kitti else measure_speed(point)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if found is not None:
        out.write_text(json.dumps(found))
    return 0


def measure_speed(point: Point) -> dict[str, Any] | None:
    """Train on random pictures; None in a helper process."""
    samples = random_samples(point.images, point.input_wh)
    config = fit_config(point)
    speeds: list[float] = []

    def log(metrics: Mapping[str, float], _epoch: int) -> None:
        speeds.append(metrics["train/images_per_s"])

    result = train(point, samples, None, config, log)
    if not result.is_main:
        return None
    num_pictures = epoch_pictures(point, len(samples))
    return {
        "images_per_s": round(max(speeds[1:] or speeds), 1),
        "epoch_s": [round(num_pictures / speed, 2) for speed in speeds],
        "peak_gpu_mb": peak_gpu_mb(),
        "parts_ms": measure_parts(samples, config),
    }


def time_to_target(point: Point) -> dict[str, Any] | None:
    """Train on drawn hands and say when their AP50 reached the target; None in a helper process.

    The learning rate's schedule is part of what is timed, so that the run goes on to its end.
    """
    train_samples, val_samples = (
        load_samples(
            Path(point.kitti), list_stems(Path(point.kitti), side), input_wh=point.input_wh
        )
        for side in ("train", "val")
    )
    num_pictures = epoch_pictures(point, len(train_samples))
    started = time.perf_counter()
    rows: list[dict[str, float]] = []

    def log(metrics: Mapping[str, float], epoch: int) -> None:
        rows.append(
            {
                "epoch": epoch,
                "images": epoch * num_pictures,
                "ap50": round(metrics["val/ap50"], 4),
                "seconds": round(time.perf_counter() - started, 2),
                "train_s": round(num_pictures / metrics["train/images_per_s"], 2),
            }
        )

    config = dataclasses.replace(fit_config(point), validate_every_epochs=1)
    result = train(point, train_samples, val_samples, config, log)
    return summarise_target(rows, point) if result.is_main else None


def summarise_target(rows: list[dict[str, float]], point: Point) -> dict[str, Any]:
    """Say when the target was reached first (null = never), and what the last epoch gave.

    rows: per epoch; train_s without validation, of that epoch alone.
    """
    reached = next((row for row in rows if row["ap50"] >= point.target_ap50), None)
    upto = [row for row in rows if reached and row["epoch"] <= reached["epoch"]]
    return {
        "target_ap50": point.target_ap50,
        "epochs": point.epochs,
        "reached_epoch": reached["epoch"] if reached else None,
        "reached_images": reached["images"] if reached else None,
        "reached_s": reached["seconds"] if reached else None,
        "reached_train_s": round(sum(row["train_s"] for row in upto), 2) if reached else None,
        "last_ap50": rows[-1]["ap50"],
        "last_s": rows[-1]["seconds"],
        "curve": rows,
    }


def train(
    point: Point,
    samples: Samples,
    val_samples: Samples | None,
    config: FitConfig,
    log: Callable[[Mapping[str, float], int], None],
) -> FitResult:
    """Run the real training loop, without checkpoints."""
    torch.manual_seed(config.seed)
    model = DetectNet(build_architecture(point.layers, width=point.width, input_wh=point.input_wh))
    return fit(
        model, samples, val_samples, config, postprocess=POSTPROCESS, work_dir=None, log=log
    )


def fit_config(point: Point) -> FitConfig:
    """Return the default training with the point's sizes."""
    return FitConfig(
        epochs=point.epochs,
        batch_size=point.batch_size,
        devices=str(point.devices),
        validate_every_epochs=0,
    )


def epoch_pictures(point: Point, num_samples: int) -> int:
    """Count the pictures of an epoch, those that fill the last batches included."""
    steps = count_steps(num_samples, batch_size=point.batch_size, world_size=point.devices)
    return steps * point.batch_size * point.devices


def peak_gpu_mb() -> float | None:
    """Return what PyTorch held at most of this process's GPU; None without one."""
    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_reserved() / 1e6, 1)


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
            lambda: rasterize_boxes(
                batch.boxes, batch.is_box, config.targets, input_wh=wh, device=device
            )
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
