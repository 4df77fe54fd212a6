"""Measure training: images per second by batch size and devices, and the time to a target AP.

Run: make bench-train (two minutes on 2 CPU cores with resnet10 of width 16 at 320x192; on GPUs
resnet18 at 640x352), or python -m benchmarks.train --devices 1,2 --batches 64,128. Every point is
a process of its own (benchmarks/train_point.py), on several devices one for each.

`speed` in the JSON file has the real training loop on random pictures: images_per_s is the best
epoch after the first, epoch_s are all epochs, peak_gpu_mb the memory of the first GPU, parts_ms
medians per batch. A batch that does not fit has `error` instead. batch_size is per device.

`time_to_target` trains the default schedule on drawn hands, with validation after each epoch and
the default's whole batch, on all devices asked for. reached_s is from the first step on until
AP50 first reached the target, reached_train_s without the validations; null = never.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.drawn import draw_kitti
from benchmarks.train_point import Point
from deploy.machine import describe_machine
from stages._files import write_json
from stages.detectnet.config import FitConfig, ModelConfig

OUT = Path(".work/bench-train.json")
BATCHES = [16, 32, 64, 128]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, measure every point, write JSON."""
    args = parse_arguments(argv)
    started = time.perf_counter()
    base = Point(
        layers=args.layers,
        width=args.width,
        input_wh=args.input,
        images=args.images,
        epochs=args.epochs,
    )
    result: dict[str, Any] = {
        "schema": 1,
        "machine": describe_training_machine(),
        "model": {"layers": args.layers, "width": args.width, "input_wh": args.input},
        "images": args.images,
        "speed": [],
        "time_to_target": None,
    }
    for devices in args.devices:
        for batch_size in args.batches:
            point = dataclasses.replace(base, devices=devices, batch_size=batch_size)
            result["speed"].append(report(measure(point)))
    if args.target_ap50 > 0.0:
        result["time_to_target"] = report(time_to_target(base, args))
    write_json(args.out, result)
    seconds = time.perf_counter() - started
    num_points = len(result["speed"])
    sys.stderr.write(f"bench-train: {num_points} points, {seconds:.1f} s -> {args.out}\n")
    return 0


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; what is left out fits the machine."""
    num_gpus = torch.cuda.device_count()
    default = ModelConfig(18, 64, [640, 352]) if num_gpus else ModelConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=default.num_layers)
    parser.add_argument("--width", type=int, default=default.width)
    parser.add_argument("--input", type=_input_wh, default=default.input_wh, metavar="WxH")
    parser.add_argument("--batches", type=_numbers, default=BATCHES, help="per device: 16,32")
    parser.add_argument(
        "--devices", type=_numbers, default=device_counts(num_gpus), help="how many: 1,2"
    )
    parser.add_argument("--images", type=int, default=4096 if num_gpus else 256)
    parser.add_argument("--epochs", type=int, default=4 if num_gpus else 3)
    parser.add_argument("--target-ap50", type=float, default=0.7, help="0 = do not train for it")
    parser.add_argument("--target-videos", type=int, default=240 if num_gpus else 120)
    parser.add_argument("--target-epochs", type=int, default=FitConfig().epochs)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    try:
        ModelConfig(args.layers, args.width, args.input)
    except ValueError as error:
        parser.error(str(error))
    return args


def device_counts(num_gpus: int) -> list[int]:
    """List 1, 2, 4, ... and all GPUs; a machine without one is one device."""
    counts = {1 << power for power in range(num_gpus.bit_length())} | {num_gpus}
    return sorted(count for count in counts if count) or [1]


def describe_training_machine() -> dict[str, Any]:
    """Describe the machine as deploy does, with what PyTorch sees of it."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        **describe_machine(),
        "gpus": gpus,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }


def measure(point: Point) -> dict[str, Any]:
    """Run one point in a process of its own; what a person can mend becomes its `error`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "point.json"
        command = [sys.executable, "-m", "benchmarks.train_point"]
        command += [json.dumps(dataclasses.asdict(point)), str(out)]
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUTF8": "1"},
            check=False,
        )
        row = {"devices": point.devices, "batch_size": point.batch_size}
        if done.returncode == 0:
            return {**row, **json.loads(out.read_text())}
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if not lines:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return {**row, "error": lines[0].removeprefix("error: ")}


def time_to_target(base: Point, args: argparse.Namespace) -> dict[str, Any]:
    """Train on drawn hands on all devices asked for, with the default's whole batch."""
    devices = max(args.devices)
    with tempfile.TemporaryDirectory() as folder:
        draw_kitti(Path(folder), train_videos=args.target_videos)
        point = dataclasses.replace(
            base,
            devices=devices,
            batch_size=max(1, FitConfig().batch_size // devices),
            epochs=args.target_epochs,
            kitti=folder,
            target_ap50=args.target_ap50,
        )
        return measure(point)


def report(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row's single values as one line, and return it."""
    single = {name: value for name, value in row.items() if not isinstance(value, list | dict)}
    shown = ", ".join(f"{name} {value}" for name, value in single.items())
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()
    return row


def _input_wh(text: str) -> list[int]:
    return [int(side) for side in text.split("x")]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
