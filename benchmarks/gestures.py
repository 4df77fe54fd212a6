"""Leave one source out: how well the gesture classifier knows hands of people it never saw.

Run: python -m benchmarks.gestures --crops DIR --kitti data/kitti --out FILE [gesture.epochs=9]
(a quarter of an hour on 2 CPU cores). DIR holds <class>/<source>_<number>.jpg; every source is
held out once and the others are trained on, with the labelled hands of --kitti (drawn ones:
data/kitti of the default) beside them. FILE gets a JSON object per source: accuracy, per class
too, and the confusion matrix. Overrides are those of the section gesture. --seeds repeats all
with other seeds.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deploy.core.roi import RoiRule
from stages._config import RESOLVED, load_resolved, section_of
from stages.datasets.index import read_gestures
from stages.gesturenet.config import GESTURES, INPUT_WH, GestureConfig
from stages.gesturenet.crop_folders import load_crop_folders, source_of, split_sources
from stages.gesturenet.crops import Crops, concatenate_crops, load_labelled_crops, take_crops
from stages.gesturenet.feed import crops_to_tensor, plain_crops
from stages.gesturenet.metrics import accuracy, class_figures, confusion_matrix
from stages.gesturenet.training import fit, predict_logits


def main(argv: Sequence[str] | None = None) -> int:
    """Hold every source out in turn; return the exit status."""
    args = parse_arguments(argv)
    config = section_of(load_resolved(RESOLVED, args.overrides), GestureConfig)
    rule = RoiRule(**dataclasses.asdict(config.roi))
    own = load_crop_folders([args.crops], size_px=config.context_px, ratio=args.ratio)
    drawn = load_drawn(args.kitti, config, rule)
    sources = sorted({source_of(name) for name in own.names})
    for seed in range(config.seed, config.seed + args.seeds):
        for source in tqdm(sources, desc=f"seed {seed}", unit="source"):
            seeded = dataclasses.replace(config, seed=seed)
            row = hold_out(own, drawn, source, seeded, rule)
            with args.out.open("a") as stream:
                stream.write(json.dumps(row, sort_keys=True) + "\n")
            sys.stdout.write(f"{source}, seed {seed}: {row['accuracy']:.3f} {row['recall']}\n")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gestures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="gesture.key=value")
    parser.add_argument("--crops", type=Path, required=True, help="class folders")
    parser.add_argument("--ratio", type=float, default=1.4, help="side of a crop over its box's")
    parser.add_argument("--kitti", type=Path, help="converted frames with gestures.csv")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per source")
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args(argv)


def load_drawn(kitti: Path | None, config: GestureConfig, rule: RoiRule) -> Crops | None:
    """Cut all labelled hands of a converted dataset, with context as for training."""
    if kitti is None:
        return None
    stems = {row.stem for row in read_gestures(kitti / "gestures.csv")}
    context = rule._replace(mode="ratio", ratio=config.context_ratio, square=True, border="pad")
    return load_labelled_crops(kitti, stems, rule=context, size_px=config.context_px)


def hold_out(
    own: Crops, drawn: Crops | None, source: str, config: GestureConfig, rule: RoiRule
) -> dict[str, Any]:
    """Train without one source and measure on it; returns the row of the output."""
    sides = split_sources(own, test=[source])
    parts = [sides["train"], *([drawn] if drawn is not None else [])]
    test = sides["test"]
    images = plain_crops(test, num=len(test.names), rule=rule)
    unseen = Crops(images, test.boxes, test.class_id, test.names)
    empty = take_crops(unseen, np.zeros(0, np.int64))
    with tempfile.TemporaryDirectory() as folder:
        result = fit(
            concatenate_crops(parts),
            empty,
            config,
            rule=rule,
            work_dir=Path(folder),
            log=lambda _row: None,
        )
    answers = predict_logits(result.model, crops_to_tensor(images)).argmax(axis=1)
    confusion = confusion_matrix(test.class_id, answers, num_classes=len(GESTURES))
    recall = class_figures(confusion).recall
    present = [index for index in range(len(GESTURES)) if confusion[index].any()]
    return {
        "source": source,
        "seed": config.seed,
        "accuracy": round(accuracy(confusion), 4),
        "recall": {GESTURES[index]: round(float(recall[index]), 4) for index in present},
        "confusion": confusion.tolist(),
        "crops": len(test.names),
        "input_wh": list(INPUT_WH),
    }


if __name__ == "__main__":
    sys.exit(main())
