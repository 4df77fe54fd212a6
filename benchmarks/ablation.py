"""Train variants of one recipe with each real video held out in turn, over several seeds.

Run: python -m benchmarks.ablation --own DIR --extra DIR --variants benchmarks/real.yaml --out FILE
(a GPU; a minute or two a run, several at once with --workers). DIR are KITTI folders,
as data/kitti of the pipeline: every video of --own is held out once, --extra is always trained on.
FILE gets one JSON object a line and run; runs that stand there are not repeated. --table prints
the means as Markdown: the figures of docs/results.md.
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from tqdm import tqdm

from benchmarks.drawn import draw_kitti, list_stems
from deploy.core.cluster import Postprocess
from stages._config import section_of
from stages._schema import PostprocessConfig
from stages.datasets.config import DatasetConfig
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.training import fit
from stages.train import build_model

FIGURES = ("ap50", "ap", "ap75")
CONF = Path(__file__).parents[1] / "conf"
VIDEO = re.compile(DatasetConfig().video_pattern)
THREADS_PER_WORKER = 3


class Job(NamedTuple):
    """One run: the variant's name and settings, the video held out, the seed, and the folders."""

    variant: str
    settings: Mapping[str, Any]
    video: str
    seed: int
    folders: Mapping[str, str | None]

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells runs apart."""
        return (self.variant, self.video, self.seed)


def main() -> int:
    """Parse arguments; run what is missing, or print the table."""
    args = parse_arguments()
    if args.table:
        sys.stdout.write(format_table(read_rows(args.out)))
        return 0
    plan = yaml.safe_load(args.variants.read_text())
    with prepared_jobs(plan, own=args.own, extra=args.extra, seeds=args.seeds) as jobs:
        done = {(row["variant"], row["video"], row["seed"]) for row in read_rows(args.out)}
        run_jobs([job for job in jobs if job.key not in done], args.out, workers=args.workers)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own", type=Path, help="KITTI folder whose videos are held out in turn")
    parser.add_argument("--extra", type=Path, help="KITTI folder that is always trained on")
    parser.add_argument("--variants", type=Path, help="YAML: base, and variants by name")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="runs at once on this GPU")
    parser.add_argument("--table", action="store_true", help="print the means of --out and end")
    args = parser.parse_args()
    if not args.table and (args.own is None or args.variants is None):
        parser.error("--own and --variants are needed, or --table")
    return args


@contextlib.contextmanager
def prepared_jobs(
    plan: Mapping[str, Any], *, own: Path, extra: Path | None, seeds: int
) -> Iterator[list[Job]]:
    """List the runs of a plan, with as many drawn videos as they need while the block runs."""
    with tempfile.TemporaryDirectory() as drawn:
        folders = {"own": str(own), "extra": str(extra) if extra else None, "drawn": drawn}
        jobs = list_jobs(plan, folders, seeds=seeds)
        most = max(int(job.settings["data"]["drawn_videos"]) for job in jobs)
        if most:
            draw_kitti(Path(drawn), train_videos=most)
        yield jobs


def list_jobs(
    plan: Mapping[str, Any], folders: Mapping[str, str | None], *, seeds: int
) -> list[Job]:
    """List the runs of a plan, all variants of one seed and video before the next."""
    own = Path(str(folders["own"]))
    videos = sorted({video_of(path.stem) for path in (own / "images").iterdir()})
    settings = {
        name: resolve({**plan["base"], **(changes or {})})
        for name, changes in plan["variants"].items()
    }
    return [
        Job(name, settings[name], video, seed, folders)
        for seed in range(seeds)
        for name in settings
        for video in videos
    ]


def resolve(changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turn dotted settings into sections; `train: NAME` starts from that preset of conf/train.

    data has repeat_own, extra (whether it is used) and drawn_videos, of 4 frames each.
    """
    preset = f"{changes.get('train', 'default')}.yaml"
    sections: dict[str, dict[str, Any]] = {
        "data": {"repeat_own": 1, "extra": True, "drawn_videos": 0},
        "model": {},
        "postprocess": yaml.safe_load((CONF / "postprocess/default.yaml").read_text()),
        "train": yaml.safe_load((CONF / "train" / preset).read_text()),
    }
    for key, value in changes.items():
        *path, last = key.split(".")
        place: dict[str, Any] = sections
        for name in path:
            place = place[name]
        if path:
            place[last] = value
    return sections


def run_jobs(jobs: Sequence[Job], out: Path, *, workers: int) -> None:
    """Run the jobs in processes of their own and append their rows as they end."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool, out.open("a") as stream:
        for row in tqdm(pool.imap_unordered(run_job, jobs), total=len(jobs), unit="run"):
            stream.write(json.dumps(row, sort_keys=True) + "\n")
            stream.flush()


def run_job(job: Job) -> dict[str, Any]:
    """Train and validate once; returns the row of the output."""
    torch.set_num_threads(THREADS_PER_WORKER)
    config = dataclasses.replace(section_of(job.settings, TrainConfig), seed=job.seed)
    model = section_of(job.settings, ModelConfig)
    postprocess = Postprocess(**dataclasses.asdict(section_of(job.settings, PostprocessConfig)))
    train, val = load_fold(job, model.input_wh)
    started = time.perf_counter()
    result = fit(
        build_model(model, seed=job.seed),
        train,
        val,
        dataclasses.replace(config, validate_every_epochs=config.epochs),
        postprocess=postprocess,
        work_dir=None,
    )
    seconds = time.perf_counter() - started
    return {
        "variant": job.variant,
        "video": job.video,
        "seed": job.seed,
        **{name: round(result.metrics[name], 4) for name in FIGURES},
        "images": len(train) * config.epochs,
        "seconds": round(seconds, 1),
    }


def load_fold(job: Job, input_wh: Sequence[int]) -> tuple[Samples, Samples]:
    """Load the frames to train on and those of the video held out."""
    data = job.settings["data"]
    own = _stems(job.folders["own"])
    held_out = [stem for stem in own if video_of(stem) == job.video]
    kept = [stem for stem in own if video_of(stem) != job.video] * int(data["repeat_own"])
    parts = [load_samples(Path(str(job.folders["own"])), kept, input_wh=input_wh)]
    if data["extra"] and job.folders["extra"] is not None:
        extra = Path(job.folders["extra"])
        parts.append(load_samples(extra, _stems(str(extra)), input_wh=input_wh))
    if data["drawn_videos"]:
        drawn = Path(str(job.folders["drawn"]))
        videos = sorted({video_of(stem) for stem in list_stems(drawn, "train")})
        chosen = set(videos[: int(data["drawn_videos"])])
        stems = [stem for stem in list_stems(drawn, "train") if video_of(stem) in chosen]
        parts.append(load_samples(drawn, stems, input_wh=input_wh))
    val = load_samples(Path(str(job.folders["own"])), held_out, input_wh=input_wh)
    return join_samples(parts), val


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Put several sets behind each other."""
    return Samples(
        tuple(stem for part in parts for stem in part.stems),
        np.concatenate([part.images for part in parts]),
        tuple(boxes for part in parts for boxes in part.boxes),
        np.concatenate([part.image_wh for part in parts]),
    )


def video_of(stem: str) -> str:
    """Return the video of a frame by the rule of KITTI folders; the stem where it says nothing."""
    match = VIDEO.match(stem)
    return match[1] if match else stem


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows so far; none without the file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def format_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Write a row per variant: mean over videos, then mean and spread over the seeds."""
    by_variant: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], {}).setdefault(row["seed"], []).append(row)
    most = max((len(runs) for seeds in by_variant.values() for runs in seeds.values()), default=0)
    lines = ["| variant | seeds | AP50 | AP | AP75 |", "|---|---:|---:|---:|---:|"]
    for variant, seeds in by_variant.items():
        whole = [runs for runs in seeds.values() if len(runs) == most]
        cells = [_mean_and_spread(whole, name) for name in FIGURES]
        lines.append(f"| {variant} | {len(whole)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean_and_spread(seeds: Sequence[Sequence[Mapping[str, Any]]], name: str) -> str:
    means = [statistics.fmean(float(row[name]) for row in runs) for runs in seeds]
    if not means:
        return "-"
    return f"{statistics.fmean(means):.3f} ({min(means):.3f} to {max(means):.3f})"


def _stems(folder: str | None) -> list[str]:
    return sorted(path.stem for path in (Path(str(folder)) / "images").iterdir())


if __name__ == "__main__":
    sys.exit(main())
