"""Is pruning worth it: a pruned network against one of its shape that was trained from scratch.

Run: python -m benchmarks.pruning --own DIR --extra DIR --flops 0.18 --out FILE (a GPU; the recipe
is the base of benchmarks/real.yaml). Each video of --own is held out once, for every seed; with
--val DIR nothing is held out and that folder validated on. Both networks see as many pictures: the
pruned one --epochs at full width and --retrain-epochs after pruning, with and without imitating
the unpruned network, the other one all of them in its final shape. FILE gets a JSON object for
each network of a run; --table prints the means as benchmarks.ablation does.
"""

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
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
from stages.detectnet.model import Architecture, DetectNet, count_parameters
from stages.detectnet.pruning import prune_model
from stages.detectnet.retraining import calibration_batches
from stages.detectnet.training import FitResult, fit
from stages.train import build_model

RETRAIN = RetrainConfig()


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
    with prepared_jobs(plan, folders, seeds=args.seeds, videos=args.videos) as jobs:
        done = {(row["video"], row["seed"]) for row in read_rows(args.out)}
        for job in tqdm([job for job in jobs if (job.video, job.seed) not in done], unit="run"):
            goal = PruneConfig(params_frac=None, flops=args.flops, min_frac=args.min_frac)
            rows = run_pair(job, goal, retrain_epochs=args.retrain_epochs, distill=args.distill)
            with args.out.open("a") as stream:
                stream.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
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
        "--distill",
        type=float,
        nargs="*",
        default=[0.5],
        help="as retrain.distill_weight, a network each (default: 0.5)",
    )
    parser.add_argument("--min-frac", type=float, default=0.0, help="as prune.min_frac")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--videos", nargs="+", help="hold out these alone (default: each)")
    parser.add_argument("--table", action="store_true", help="print the means of --out and end")
    args = parser.parse_args()
    if not args.table and args.own is None:
        parser.error("--own is needed, or --table")
    return args


def run_pair(
    job: Job, goal: PruneConfig, *, retrain_epochs: int, distill: Sequence[float]
) -> list[dict[str, Any]]:
    """Train, prune and train on; then train the pruned shape from scratch; returns their rows."""
    config = dataclasses.replace(section_of(job.settings, TrainConfig), seed=job.seed)
    model = section_of(job.settings, ModelConfig)
    train, val = load_fold(job, model.input_wh)
    whole = _fit(job, build_model(model, seed=job.seed), train, val, config)
    assert isinstance(whole.model, DetectNet)
    pruned = prune_model(whole.model, goal).model
    images = calibration_batches(train, num_images=RETRAIN.batch_norm_images)
    measure_batch_norm(pruned, images)
    later = dataclasses.replace(config, epochs=retrain_epochs, learning_rate=8.0e-3)
    rows = [_row(job, "full width", whole)]
    for weight in distill:
        teacher = Teacher(whole.model, weight)
        imitating = _fit(job, copy.deepcopy(pruned), train, val, later, teacher=teacher)
        rows.append(_row(job, f"pruned and trained on, imitating by {weight:g}", imitating))
    recovered = _fit(job, pruned, train, val, later)
    longer = dataclasses.replace(config, epochs=config.epochs + retrain_epochs)
    scratch = _fit(job, new_network(pruned.architecture, seed=job.seed), train, val, longer)
    return [
        *rows,
        _row(job, "pruned and trained on", recovered),
        _row(job, "that shape from scratch", scratch),
    ]


def new_network(architecture: Architecture, *, seed: int) -> DetectNet:
    """Make an untrained network of any shape; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return DetectNet(architecture)


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
