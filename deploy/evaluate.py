"""Measure a detector on a folder of images with KITTI labels: average precision, samples, speed.

    python -m deploy.evaluate --model models/export --images data/images --labels data/labels

Any model folder, any runtime, any KITTI folder. The measuring itself is in deploy/evaluation.py.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from deploy.core.average_precision import SURE_IOU, SURE_PRECISION
from deploy.core.errors import DeployError, UserError
from deploy.core.model_json import check_sha256, read_model_json
from deploy.engine import AUTO, PRECISIONS, RUNTIMES, open_engine
from deploy.evaluation import evaluate_model, measure_speed, metrics_document
from deploy.frames import find_frames
from deploy.samples import write_samples

NUM_SAMPLES = 12


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return 0, or 1 for what a person can mend. Usage errors exit 2."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        document = _run(args)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(_table(document))
    return 0


def _run(args: argparse.Namespace) -> Dict[str, Any]:
    info = read_model_json(args.model)
    check_sha256(args.model, info)
    class_name = args.class_name or info.classes[0]
    frames = find_frames(args.images, args.labels, class_name=class_name, limit=args.limit)
    if not any(len(frame.truth) for frame in frames):
        raise DeployError(
            f"{args.labels}: no box of class {class_name} in {len(frames)} label files; name the "
            "class that they have with --class-name"
        )
    with open_engine(args.model, runtime=args.runtime, precision=args.precision) as engine:
        evaluation = evaluate_model(engine.infer, info, frames, progress=_show_progress)
        speed = measure_speed(engine.infer, info, frames, num_images=args.speed_images)
        document = metrics_document(evaluation)
        document.update(engine=engine.info(), speed=dict(speed._asdict()))
    if args.json:
        _write_json(args.json, document)
    if args.samples:
        assert info.postprocess is not None  # model.json's schema wants one for detectors
        write_samples(
            args.samples,
            frames,
            evaluation.predictions,
            count=NUM_SAMPLES,
            confidence_threshold=info.postprocess.confidence_threshold,
        )
    return document


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r{}/{} images{}".format(done, total, "\n" if done == total else ""))


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(str(aside), str(path))


def _table(document: Mapping[str, Any]) -> str:
    return "".join(line + "\n" for line in _lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    engine, speed = document["engine"], document["speed"]
    yield "{} images, {} boxes, {} {}".format(
        document["num_images"], document["num_boxes"], engine["runtime"], engine["precision"]
    )
    yield "AP {ap:.3f}  AP50 {ap50:.3f}  AP75 {ap75:.3f}  TAO AP {ap_tao:.3f}".format(**document)
    yield (
        "precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}  "
        "(best F1 {best_f1:.3f} at confidence {best_confidence_threshold:.3f})"
    ).format(**document)
    yield (
        "recall {recall_sure:.3f} at precision {precision:g} and IoU {iou:g} "
        "(confidence {sure_confidence_threshold:.3f})"
    ).format(**dict(document, precision=SURE_PRECISION, iou=SURE_IOU))
    yield (
        "{total_ms_p50:.2f} ms per image (p90 {total_ms_p90:.2f}, p99 {total_ms_p99:.2f}), "
        "network {infer_ms_p50:.2f} ms"
    ).format(**speed)
    videos = document["per_video"]
    if 1 < len(videos) < document["num_images"]:
        width = max(len(row["video"]) for row in videos)
        yield "{:{}}  images  boxes     AP   AP50".format("video", width)
        for row in videos:
            yield "{video:{width}}  {num_images:6d} {num_boxes:6d}  {ap:.3f}  {ap50:.3f}".format(
                width=width, **row
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.evaluate", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model folder")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="image folder")
    parser.add_argument("--labels", type=Path, required=True, metavar="DIR", help="KITTI labels")
    parser.add_argument("--runtime", default=AUTO, choices=(AUTO, *RUNTIMES))
    parser.add_argument("--precision", default=AUTO, choices=(AUTO, *PRECISIONS))
    parser.add_argument(
        "--class-name", help="true class in the labels (default: the model's first)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument(
        "--samples", type=Path, metavar="DIR", help="write annotated pictures here"
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="only N images, evenly spaced"
    )
    parser.add_argument(
        "--speed-images", type=int, default=50, metavar="N", help="images to time (default 50)"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
