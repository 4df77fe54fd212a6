"""Leave one source out: how well the gesture classifier knows hands of people it never saw.

Run: python -m benchmarks.gestures --crops DIR --kitti data/kitti --out FILE [gesture.epochs=9]
(a quarter of an hour on 2 CPU cores). DIR holds <class>/<source>_<number>.jpg; every source is
held out once and the others are trained on, with the labelled hands of --kitti (drawn ones:
data/kitti of the default) and those of gesture.drawn beside them. --hands has hands that show no
gesture (EgoHands as data/kitti): one of its videos is held out in turn too, and the others are
trained on as `random` where gesture.unlabelled_random is set. FILE gets a JSON object per source:
accuracy, per class too, the confusion matrix, and which share of the held-out --hands was taken
for a gesture (benchmarks/gesture_alarms.py). --preset real takes conf/gesture/real.yaml instead of
resolved.yaml's section gesture; overrides are of that section. --seeds repeats all with other
seeds. gesture.folders.joints=FILE (python -m stages.gesturenet.find_joints) gives the crops tight
boxes as a detector does, those that are held out too.

--answers DIR keeps what the network said, one <source>_<seed>.npz each: class_id and logits of the
source's crops, names, boxes and logits of the held-out --hands.

Drawing takes minutes: --cache FILE keeps the drawn crops, and takes them from there the next time
(not those of another renderer or of other settings).
--draw-only ends then. --sources names those that are held out: several such programs may share a
GPU, each with a FILE of its own.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from benchmarks.gesture_alarms import alarm_shares, frame_boxes
from deploy.core.errors import UserError
from deploy.core.roi import RoiRule
from deploy.machine import available_cpus
from stages._config import RESOLVED, load_resolved, section_of
from stages._files import hash_paths
from stages.datasets.index import read_gestures, read_index
from stages.gesture import context_rule
from stages.gesturenet.config import GESTURES, INPUT_WH, GestureConfig
from stages.gesturenet.crop_file import load_saved_crops, save_crops
from stages.gesturenet.crop_folders import load_crop_folders, source_of, split_sources
from stages.gesturenet.crops import (
    NO_GESTURE,
    Crops,
    concatenate_crops,
    load_labelled_crops,
    load_unlabelled_crops,
    take_crops,
)
from stages.gesturenet.drawn_hands import draw_crops
from stages.gesturenet.errors import GestureError
from stages.gesturenet.feed import crops_to_tensor, plain_crops
from stages.gesturenet.metrics import accuracy, class_figures, confusion_matrix, softmax
from stages.gesturenet.training import fit, predict_logits

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf" / "gesture"
RENDERER = ROOT / "stages" / "datasets" / "render"


def main(argv: Sequence[str] | None = None) -> int:
    """Hold every source out in turn; return the exit status."""
    args = parse_arguments(argv)
    config = load_config(args.preset, args.overrides)
    rule = RoiRule(**dataclasses.asdict(config.roi))
    joints = Path(config.folders.joints) if config.folders.joints else None
    own = load_crop_folders(
        [args.crops], size_px=config.context_px, ratio=args.ratio, joints=joints
    )
    drawn = load_drawn(args.kitti, config, rule, cache=args.cache)
    if args.draw_only:
        return 0
    hands = split_hands(args.hands, config, rule, video=args.video) if args.hands else [None]
    sources = sorted({source_of(name) for name in own.names})
    for seed in range(config.seed, config.seed + args.seeds):
        for index, source in enumerate(tqdm(sources, desc=f"seed {seed}", unit="source")):
            if args.sources and source not in args.sources:
                continue
            seeded = dataclasses.replace(config, seed=seed)
            row, answers = hold_out(
                own, drawn, source, seeded, rule, hands=hands[index % len(hands)]
            )
            if args.answers:
                args.answers.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(args.answers / f"{source}_{seed}.npz", **answers)
            with args.out.open("a") as stream:
                stream.write(json.dumps(row, sort_keys=True) + "\n")
            sys.stdout.write(f"{source}, seed {seed}: {row['accuracy']:.3f} {row['recall']}\n")
    return 0


def load_config(preset: str | None, overrides: Sequence[str]) -> GestureConfig:
    """Read the section gesture of resolved.yaml, or a preset of conf/gesture, with overrides."""
    if preset is None:
        return section_of(load_resolved(RESOLVED, overrides), GestureConfig)
    section = yaml.safe_load((CONF / f"{preset}.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / "resolved.yaml"
        others = yaml.safe_load(RESOLVED.read_text())
        resolved.write_text(yaml.safe_dump({**others, "gesture": section}))
        return section_of(load_resolved(resolved, overrides), GestureConfig)


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
    parser.add_argument("--preset", help="of conf/gesture, instead of resolved.yaml")
    parser.add_argument("--kitti", type=Path, help="converted frames with gestures.csv")
    parser.add_argument("--hands", type=Path, help="converted frames without gestures")
    parser.add_argument("--video", help="of --hands, held out each time instead of one in turn")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per source")
    parser.add_argument("--answers", type=Path, metavar="DIR", help="keeps the networks' logits")
    parser.add_argument("--cache", type=Path, help="file that keeps the drawn crops")
    parser.add_argument("--draw-only", action="store_true", help="end with --cache written")
    parser.add_argument("--sources", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args(argv)


def load_drawn(
    kitti: Path | None, config: GestureConfig, rule: RoiRule, *, cache: Path | None = None
) -> list[Crops]:
    """Cut all labelled hands of a converted dataset, and draw those of gesture.drawn.

    cache: where the latter are kept; what is there already is taken as it is.
    """
    context, size_px = context_rule(config, rule), config.context_px
    parts = []
    if kitti is not None:
        stems = {row.stem for row in read_gestures(kitti / "gestures.csv")}
        parts.append(load_labelled_crops(kitti, stems, rule=context, size_px=size_px))
    if config.drawn.videos:
        parts.append(draw_or_load(config, context, cache))
    return parts


def draw_or_load(config: GestureConfig, context: RoiRule, cache: Path | None) -> Crops:
    """Draw the hands of gesture.drawn, or take them from the cache that has just those."""
    made_from = {
        # These two are about training, not about drawing.
        "drawn": {**dataclasses.asdict(config.drawn), "share": None, "random_weight": 1.0},
        "context": dict(context._asdict()),
        "size_px": config.context_px,
        "renderer": hash_paths(RENDERER.glob("*.py")),
    }
    if cache is not None and cache.exists():
        return load_saved_crops(cache, made_from)
    workers = available_cpus()
    crops = draw_crops(config.drawn, rule=context, size_px=config.context_px, workers=workers)
    if cache is not None:
        save_crops(cache, crops, made_from)
    return crops


class Hands(NamedTuple):
    """Hands without a gesture: those trained on as `random`, and those measured, as the runtime
    cuts them, with their boxes (n, 4) in frame pixels."""

    train: Crops
    test: Crops
    test_boxes: np.ndarray


def split_hands(
    kitti: Path, config: GestureConfig, rule: RoiRule, *, video: str | None = None
) -> list[Hands | None]:
    """Hold out each video of a converted dataset without gestures once, or the named one alone.

    Raises GestureError for a video that is not there.
    """
    context, size_px = context_rule(config, rule), config.context_px
    rows = read_index(kitti / "index.csv")
    videos = sorted({row.video for row in rows})
    if video is not None and video not in videos:
        raise GestureError(f"--video {video}: {kitti} has {', '.join(videos)}")
    held_out = []
    for each in videos if video is None else [video]:
        stems = {row.stem for row in rows if row.video != each and config.unlabelled_random}
        train = load_unlabelled_crops(kitti, stems, rule=context, size_px=size_px)
        unseen = {row.stem for row in rows if row.video == each}
        test = load_unlabelled_crops(kitti, unseen, rule=rule, size_px=INPUT_WH[0])
        held_out.append(Hands(train, test, frame_boxes(kitti, test.names)))
    return list(held_out)


def hold_out(
    own: Crops,
    drawn: Sequence[Crops],
    source: str,
    config: GestureConfig,
    rule: RoiRule,
    *,
    hands: Hands | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train without one source and measure on it; returns the row of the output, and the logits
    with what they belong to."""
    sides = split_sources(own, test=[source])
    parts = [sides["train"], *drawn, *([hands.train] if hands else [])]
    test = sides["test"]
    images = plain_crops(test, num=len(test.names), rule=rule)
    unseen = test._replace(images=images)
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
    answers = {
        "class_id": test.class_id,
        "logits": predict_logits(result.model, crops_to_tensor(images)),
    }
    best = answers["logits"].argmax(axis=1)
    confusion = confusion_matrix(test.class_id, best, num_classes=len(GESTURES))
    recall = class_figures(confusion).recall
    present = [index for index in range(len(GESTURES)) if confusion[index].any()]
    alarms = {}
    if hands is not None:
        logits = predict_logits(result.model, crops_to_tensor(hands.test.images))
        probabilities = softmax(logits)
        answers["hands_names"] = np.array(hands.test.names)
        answers.update(hands_boxes=hands.test_boxes, hands_logits=logits)
        idle = GESTURES.index(NO_GESTURE)
        alarms = alarm_shares(hands.test.names, hands.test_boxes, probabilities, idle=idle)
    row = {
        **alarms,
        "source": source,
        "seed": config.seed,
        "accuracy": round(accuracy(confusion), 4),
        "recall": {GESTURES[index]: round(float(recall[index]), 4) for index in present},
        "confusion": confusion.tolist(),
        "crops": len(test.names),
        "input_wh": list(INPUT_WH),
    }
    return row, answers


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
