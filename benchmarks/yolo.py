"""What a YOLO from scratch finds after learning from the same real frames: the figure to beat.

Run: pip install ultralytics, in an environment of its own beside this project's packages, then
python -m benchmarks.yolo --kitti data/kitti --split data/split [--epochs 80] (5 minutes on a GPU).
Trains on the real frames of the train split once each (drawn ones are left out), measures on
those of the test split by the rule of every other figure here, prints one line. Its own settings,
such as mosaics and the optimiser, are left as they come.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deploy.core.average_precision import Metrics, evaluate_detections
from deploy.core.boxes import Detections
from deploy.core.kitti import label_boxes, read_labels

DRAWN = ("TRAIN_", "VAL_", "TEST_")
# All that may be right, as in the other figures; overlaps are suppressed as ultralytics does.
LEAST_CONFIDENCE = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure and print; return the exit status."""
    args = parse_arguments(argv)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    try:
        from ultralytics import YOLO
    except ImportError:
        sys.stderr.write("error: ultralytics is not installed; run: pip install ultralytics\n")
        return 1
    train, test = (real_stems(args.split / f"{side}.txt") for side in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_data(root / "train", args.kitti, train)
        write_data(root / "val", args.kitti, test)
        (root / "data.yaml").write_text(
            f"path: {root}\ntrain: train/images\nval: val/images\nnames: {{0: hand}}\n"
        )
        options = {"imgsz": args.imgsz, "device": args.device}
        YOLO(args.model).train(
            data=str(root / "data.yaml"),
            epochs=args.epochs,
            pretrained=False,
            plots=False,
            amp=False,  # its check of half precision downloads a trained model
            project=str(root),
            name="run",
            **options,
        )
        network = YOLO(str(root / "run" / "weights" / "last.pt"))
        metrics = measure(network, args.kitti, test, options)
    figures = ("ap50", "ap", "ap75", "recall_sure")
    shown = ", ".join(f"{name} {getattr(metrics, name):.3f}" for name in figures)
    print(f"{args.model}: {len(train)} training images, {len(test)} test images: {shown}")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.yolo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kitti", type=Path, required=True, help="images/ and labels/")
    parser.add_argument("--split", type=Path, required=True, help="train.txt and test.txt")
    parser.add_argument("--model", default="yolo11n.yaml", help="architecture, not weights")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--device", default="0", help="GPU number, or cpu")
    return parser.parse_args(argv)


def real_stems(path: Path) -> list[str]:
    """List the frames of a split file that are not drawn, each once."""
    return sorted({stem for stem in path.read_text().split() if not stem.startswith(DRAWN)})


def write_data(folder: Path, kitti: Path, stems: Iterable[str]) -> None:
    """Copy frames; write their boxes as ultralytics reads them: class, centre, size in [0, 1]."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for stem in stems:
        image = image_path(kitti, stem)
        shutil.copyfile(image, folder / "images" / image.name)
        height, width = cv2.imread(str(image)).shape[:2]
        lines = yolo_lines(true_boxes(kitti, stem), image_wh=(width, height))
        (folder / "labels" / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))


def yolo_lines(xyxy: np.ndarray, *, image_wh: tuple[int, int]) -> list[str]:
    """Turn boxes (N, 4) in pixels into lines of one class."""
    size = np.array([*image_wh, *image_wh], np.float64)
    low, high = (xyxy / size)[:, :2], (xyxy / size)[:, 2:]
    rows = np.concatenate([(low + high) / 2, high - low], axis=1)
    return [" ".join(["0", *(f"{value:.6f}" for value in row)]) for row in rows]


def true_boxes(kitti: Path, stem: str) -> np.ndarray:
    """Read the hands of a frame, xyxy (N, 4)."""
    return label_boxes(read_labels(kitti / "labels" / f"{stem}.txt"), class_name="hand")


def image_path(kitti: Path, stem: str) -> Path:
    """Find a frame's file, whatever its type."""
    return next((kitti / "images").glob(f"{stem}.*"))


def measure(network: Any, kitti: Path, stems: Sequence[str], options: dict[str, Any]) -> Metrics:
    """Run a trained network over frames and measure it as every detector here is measured."""
    found = {}
    for stem in stems:
        (result,) = network.predict(
            str(image_path(kitti, stem)), conf=LEAST_CONFIDENCE, verbose=False, **options
        )
        boxes = result.boxes.cpu()
        found[stem] = Detections(
            boxes.xyxy.numpy().astype(np.float32),
            boxes.conf.numpy().astype(np.float32),
            np.zeros(len(boxes), np.int64),
        )
    truths = {stem: true_boxes(kitti, stem) for stem in stems}
    return evaluate_detections(found, truths, confidence_threshold=0.5)


if __name__ == "__main__":
    sys.exit(main())
