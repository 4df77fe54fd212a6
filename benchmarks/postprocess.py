"""Compare constants between output maps and boxes on validation frames: conf/postprocess.

Run: python -m benchmarks.postprocess --model models/export --images data/kitti/images \
    --labels data/kitti/labels --stems data/split/val.txt   (seconds; prints a Markdown table)
The network runs once; every row clusters its maps anew. Choose on the validation split, never on
the frames whose figures are reported.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from deploy.core.cluster import Postprocess
from deploy.core.model_json import read_model_json
from deploy.engine import open_engine
from deploy.evaluation import Infer, evaluate_model
from deploy.frames import Frame, find_frames

NMS_IOUS = (0.3, 0.4, 0.45, 0.5, 0.6, 0.7)
DBSCAN_EPS = (0.2, 0.3, 0.4)
COVERAGES = (0.01, 0.05, 0.2)
INNER = (0.0, 0.9, 0.8, 0.75, 0.7, 0.6)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every row and print the table; return the exit status."""
    args = parse_arguments(argv)
    info = read_model_json(args.model)
    assert info.postprocess is not None  # model.json's schema wants one for detectors
    frames = choose_frames(args)
    sys.stdout.write("| constants | AP50 | AP | AP75 | recall at precision 0.97 |\n")
    sys.stdout.write("|---|---:|---:|---:|---:|\n")
    with open_engine(args.model) as engine:
        infer = Remembered(engine.infer)
        for name, constants in list_rows(info.postprocess):
            infer.rewind()
            found = evaluate_model(infer, info, frames, postprocess=constants).metrics
            figures = (found.ap50, found.ap, found.ap75, found.recall_sure)
            cells = " | ".join(f"{figure:.3f}" for figure in figures)
            sys.stdout.write(f"| {name} | {cells} |\n")
            sys.stdout.flush()
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.postprocess",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder of a detector")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="KITTI labels")
    parser.add_argument("--stems", type=Path, help="file with the names of the frames that count")
    return parser.parse_args(argv)


def choose_frames(args: argparse.Namespace) -> list[Frame]:
    """List the frames of --stems, or all of --images."""
    frames = find_frames(args.images, args.labels, class_name="hand")
    if args.stems is None:
        return frames
    wanted = set(args.stems.read_text().split())
    return [frame for frame in frames if frame.stem in wanted]


def list_rows(base: Postprocess) -> Iterator[tuple[str, Postprocess]]:
    """Yield a name and the constants of each row, those of the model first."""
    yield "as in model.json", base
    for iou in NMS_IOUS:
        yield f"nms, iou_threshold {iou:g}", base._replace(cluster="nms", iou_threshold=iou)
    for coverage in COVERAGES:
        constants = base._replace(coverage_threshold=coverage)
        yield f"coverage_threshold {coverage:g}", constants
    for share in INNER:
        yield f"inner_confidence {share:g}", base._replace(inner_confidence=share)
    for eps in DBSCAN_EPS:
        constants = base._replace(cluster="dbscan", eps=eps, min_samples=1.0)
        for confidence in ("sum", "max"):
            name = f"dbscan, eps {eps:g}, confidence {confidence}"
            yield name, constants._replace(confidence=confidence)


class Remembered:
    """A network that is asked once; later passes over the same frames get the same answers."""

    def __init__(self, infer: Infer) -> None:
        self._infer = infer
        self._answers: list[Mapping[str, np.ndarray]] = []
        self._next = 0

    def rewind(self) -> None:
        """Go back to the first frame."""
        self._next = 0

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the outputs for the batch, which must come in the same order in every pass."""
        if self._next == len(self._answers):
            outputs = self._infer(batch)
            self._answers.append({name: value.copy() for name, value in outputs.items()})
        self._next += 1
        return self._answers[self._next - 1]


if __name__ == "__main__":
    sys.exit(main())
