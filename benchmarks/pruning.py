"""Is pruning worth it: a pruned network against one of its shape that was trained from scratch.

Run: python -m benchmarks.pruning --own DIR --extra DIR --flops 0.18 --out FILE (a GPU; the recipe
is the base of benchmarks/real.yaml). Each video of --own is held out once, for every seed; with
--val DIR nothing is held out and that folder validated on. --networks: "full", at full width,
--epochs; "pruned", that one pruned, --retrain-epochs more; "scratch", the pruned one's shape from
fresh weights for as many pictures as both took; "short", the same for --retrain-epochs alone. All
but the first once with each share of --distill imitating the full one, and each --fade of that.
FILE gets a JSON object for each network of a run, those that stand there are not trained again;
--table prints the means as benchmarks.ablation does.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from tqdm import tqdm

from benchmarks.ablation import FIGURES, Job, format_table, load_fold, prepared_jobs, read_rows
from deploy.core.cluster import Postprocess
from stages._config import section_of
from stages._schema import PostprocessConfig
from stages.detectnet.compression_config import PruneConfig, RetrainConfig
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.detectnet.data import Samples
from stages.detectnet.distillation import Teacher
from stages.detectnet.folding import measure_batch_norm
from stages.detectnet.model import DetectNet, build_network, count_parameters
from stages.detectnet.pruning import prune_model
from stages.detectnet.retraining import calibration_batches
from stages.detectnet.training import FitResult, fit
from stages.train import build_model

RETRAIN = RetrainConfig()
RETRAIN_RATE = 8.0e-3
FULL = "full width"
NAMES = {
    "pruned": "pruned and trained on",
    "scratch": "that shape from scratch",
    "short": "that shape from scratch, as short as retraining",
}


class Contender(NamedTuple):
    """A network of the pruned shape: a key of NAMES, and the share of imitation in its loss, which
    fades over a last part of the training."""

    kind: str
    distill_weight: float
    fade_frac: float = 0.0


def main() -> int:
    """Parse arguments; run what is missing, or print the table."""
    args = parse_arguments()
    if args.table:
        sys.stdout.write(format_table(read_rows(args.out)))
        return 0
    base = {**yaml.safe_load(args.variants.read_text())["base"], "train.epochs": args.epochs}
    plan = {"base": base, "variants": {"": None}}
    given = {"own": args.own, "extra": args.extra, "val": args.val}
    folders = {name: str(path) if path else None for name, path in given.items()}
    goal = PruneConfig(params_frac=None, flops=args.flops, min_frac=args.min_frac)
    variants = list_variants(args.networks, args.distill, args.fade)
    with prepared_jobs(plan, folders, seeds=args.seeds, videos=args.videos) as jobs:
        for job in tqdm(jobs, unit="run"):
            missing = _missing(variants, job, args.out)
            for row in run_job(job, goal, missing, retrain_epochs=args.retrain_epochs):
                with args.out.open("a") as stream:
                    stream.write(json.dumps(row, sort_keys=True) + "\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own", type=Path, help="KITTI folder whose videos are held out in turn")
    parser.add_argument("--extra", type=Path, help="KITTI folder that is always trained on")
    parser.add_argument(
        "--val", type=Path, help="KITTI folder to validate on; nothing is held out"
    )
    parser.add_argument(
        "--variants", type=Path, default=Path(__file__).with_name("real.yaml"), help="its base"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per network")
    parser.add_argument("--flops", type=float, default=0.18, help="as prune.flops")
    parser.add_argument("--epochs", type=int, default=16, help="at full width")
    parser.add_argument("--retrain-epochs", type=int, default=12, help="after pruning")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=("full", *NAMES),
        default=["full", *NAMES],
        help="which rows to make (default: all)",
    )
    parser.add_argument(
        "--distill",
        type=float,
        nargs="+",
        default=[0.0, 0.5],
        help="as retrain.distill_weight, 0 = no teacher (default: 0 0.5)",
    )
    parser.add_argument(
        "--fade",
        type=float,
        nargs="+",
        default=[0.0],
        help="as retrain.distill_fade_frac (default: 0)",
    )
    parser.add_argument("--min-frac", type=float, default=0.0, help="as prune.min_frac")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--videos", nargs="+", help="hold out these alone (default: each)")
    parser.add_argument("--table", action="store_true", help="print the means of --out and end")
    args = parser.parse_args()
    if not args.table and args.own is None:
        parser.error("--own is needed, or --table")
    return args


def list_variants(
    networks: Collection[str], distill: Collection[float], fade: Collection[float] = (0.0,)
) -> dict[str, Contender | None]:
    """Name the rows of a run, in the order of the table; None is the network at full width."""
    variants: dict[str, Contender | None] = {FULL: None} if "full" in networks else {}
    for kind, name in NAMES.items():
        if kind in networks:
            for weight, part in itertools.product(distill, fade):
                part = part if weight > 0.0 else 0.0
                taught = f", imitating by {weight:g}" if weight > 0.0 else ""
                fading = f", fading over {part:g}" if part > 0.0 else ""
                variants[name + taught + fading] = Contender(kind, weight, part)
    return variants


def _missing(
    variants: Mapping[str, Contender | None], job: Job, out: Path
) -> dict[str, Contender | None]:
    done = {(row["variant"], row["video"], row["seed"]) for row in read_rows(out)}
    return {
        name: contender
        for name, contender in variants.items()
        if (name, job.video, job.seed) not in done
    }


def run_job(
    job: Job,
    goal: PruneConfig,
    variants: Mapping[str, Contender | None],
    *,
    retrain_epochs: int,
) -> Iterator[dict[str, Any]]:
    """Train at full width and prune, then train the variants; yields their rows, each when done.

    Nothing is trained for no variants.
    """
    if not variants:
        return
    config = dataclasses.replace(section_of(job.settings, TrainConfig), seed=job.seed)
    model = section_of(job.settings, ModelConfig)
    train, val = load_fold(job, model.input_wh)
    whole = _fit(job, build_model(model, seed=job.seed), train, val, config)
    assert isinstance(whole.model, DetectNet)
    pruned = prune_model(whole.model, goal).model
    images = calibration_batches(train, num_images=RETRAIN.batch_norm_images)
    measure_batch_norm(pruned, images)
    for name, contender in variants.items():
        if contender is None:
            yield _row(job, name, whole)
            continue
        student, later = start_contender(contender, pruned, config, retrain_epochs=retrain_epochs)
        teacher = Teacher(whole.model, contender.distill_weight, contender.fade_frac)
        yield _row(job, name, _fit(job, student, train, val, later, teacher=teacher))


def start_contender(
    contender: Contender, pruned: DetectNet, config: TrainConfig, *, retrain_epochs: int
) -> tuple[DetectNet, TrainConfig]:
    """Return the contender untrained, and how it is to be trained."""
    if contender.kind == "pruned":
        rate = RETRAIN_RATE
        later = dataclasses.replace(config, epochs=retrain_epochs, learning_rate=rate)
        return copy.deepcopy(pruned), later
    before = config.epochs if contender.kind == "scratch" else 0
    fresh = build_network(pruned.architecture, seed=config.seed)
    return fresh, dataclasses.replace(config, epochs=before + retrain_epochs)


def _fit(
    job: Job,
    model: DetectNet,
    train: Samples,
    val: Samples,
    config: TrainConfig,
    *,
    teacher: Teacher | None = None,
) -> FitResult:
    section = section_of(job.settings, PostprocessConfig)
    return fit(
        model,
        train,
        val,
        dataclasses.replace(config, validate_every_epochs=config.epochs),
        postprocess=Postprocess(**dataclasses.asdict(section)),
        work_dir=None,
        teacher=teacher,
    )


def _row(job: Job, variant: str, result: FitResult) -> dict[str, Any]:
    figures = {name: round(result.metrics[name], 4) for name in FIGURES}
    keys = {"variant": variant, "video": job.video, "seed": job.seed}
    return {**keys, **figures, "params": count_parameters(result.model)}


if __name__ == "__main__":
    sys.exit(main())
