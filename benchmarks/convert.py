"""Measure convert: frames a second from EgoHands polygons to KITTI, files in the page cache.

Run: python -m benchmarks.convert --raw data/raw [--repeats 21]   (seconds; prints JSON)
Beside it stands the cost of copying the images alone, which a converter that copies cannot beat.
The target is on the file system of --work, where links to --raw are possible.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.datasets.config import DatasetConfig
from stages.datasets.convert import convert_dataset
from stages.datasets.raw import SAMPLES


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures as one JSON object; return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.convert", description=__doc__)
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--work", type=Path, default=Path(".work"))
    parser.add_argument("--repeats", type=int, default=21)
    args = parser.parse_args(argv)
    images = sorted((args.raw / SAMPLES).glob("*/*.jpg"))
    if not images:
        parser.error(f"{args.raw / SAMPLES} holds no <VIDEO>/*.jpg; set --raw")
    args.work.mkdir(parents=True, exist_ok=True)

    def convert(target: Path) -> None:
        convert_dataset(DatasetConfig(kind="egohands"), args.raw, target)

    def copy(target: Path) -> None:
        for number, image in enumerate(images):
            shutil.copyfile(image, target / f"{number}.jpg")

    report = {
        "images": len(images),
        "convert_frames_per_s": _rates(convert, args.work, len(images), args.repeats),
        "copy_only_frames_per_s": _rates(copy, args.work, len(images), max(3, args.repeats // 3)),
    }
    print(json.dumps(report, indent=1))
    return 0


def _rates(
    action: Callable[[Path], None], work: Path, num_images: int, repeats: int
) -> dict[str, float]:
    """Return images a second, best and median of `repeats` runs after one to warm up."""
    seconds = []
    # Nothing is removed between the runs: ext4 is slow to reuse inodes that were just freed.
    with tempfile.TemporaryDirectory(dir=work) as folder:
        for run in range(repeats + 1):
            target = Path(folder) / str(run)
            target.mkdir()
            started = time.perf_counter()
            action(target)
            seconds.append(time.perf_counter() - started)
    rates = [round(num_images / value, 1) for value in seconds[1:]]
    return {"best": max(rates), "median": statistics.median(rates)}


if __name__ == "__main__":
    sys.exit(main())
