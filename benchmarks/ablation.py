"""Train variants of one recipe with each real video held out in turn, over several seeds.

Run: python -m benchmarks.ablation --own DIR --extra DIR --variants benchmarks/real.yaml --out FILE
(a GPU; a minute or two a run, several at once with --workers). DIR are KITTI folders,
as data/kitti of the pipeline: every video of --own is held out once, --extra is always trained on.
With --val DIR nothing is held out: all of --own is trained on and that folder validated on.
FILE gets one JSON object a line and run; runs that stand there are not repeated. --table prints
the means as Markdown: the figures of docs/results.md.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
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
from deploy.machine import available_cpus
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
THREADS_PER_WORKER = 3  # at most


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
    given = {"own": args.own, "extra": args.extra, "val": args.val}
    folders = {name: str(path) if path else None for name, path in given.items()}
    with prepared_jobs(plan, folders, seeds=args.seeds, videos=args.videos) as jobs:
        done = {(row["variant"], row["video"], row["seed"]) for row in read_rows(args.out)}
        run_jobs([job for job in jobs if job.key not in done], args.out, workers=args.workers)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own", type=Path, help="KITTI folder whose videos are held out in turn")
    parser.add_argument("--extra", type=Path, help="KITTI folder that is always trained on")
    parser.add_argument(
        "--val", type=Path, help="KITTI folder to validate on; nothing is held out"
    )
    parser.add_argument("--variants", type=Path, help="YAML: base, and variants by name")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one per run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--videos", nargs="+", help="hold out these alone (default: each)")
    parser.add_argument("--workers", type=int, default=1, help="runs at once, on all GPUs")
    parser.add_argument("--table", action="store_true", help="print the means of --out and end")
    args = parser.parse_args()
    if not args.table and (args.own is None or args.variants is None):
        parser.error("--own and --variants are needed, or --table")
    return args


@contextlib.contextmanager
def prepared_jobs(
    plan: Mapping[str, Any],
    folders: Mapping[str, str | None],
    *,
    seeds: int,
    videos: Sequence[str] | None = None,
) -> Iterator[list[Job]]:
    """List the runs of a plan, with as many drawn videos as they need while the block runs.

    videos: those to hold out, None = each. Raises ValueError for one that is not there.
    """
    with tempfile.TemporaryDirectory() as drawn:
        jobs = list_jobs(plan, {**folders, "drawn": drawn}, seeds=seeds)
        known = {job.video for job in jobs}
        if videos is not None and not known.issuperset(videos):
            raise ValueError(f"--videos is {', '.join(videos)}; known: {', '.join(sorted(known))}")
        jobs = [job for job in jobs if videos is None or job.video in videos]
        most: dict[float, int] = {}
        for data in (job.settings["data"] for job in jobs):
            work = float(data["table_work_frac"])
            most[work] = max(most.get(work, 0), int(data["drawn_videos"]))
        for work, count in most.items():
            if count:
                folder = drawn_folder(Path(drawn), work)
                folder.mkdir()
                draw_kitti(folder, train_videos=count, table_work_frac=work)
        yield jobs


def drawn_folder(root: Path, table_work_frac: float) -> Path:
    """Name the folder of the drawn frames with this share of people at work."""
    return root / f"work-{table_work_frac:g}"


def list_jobs(
    plan: Mapping[str, Any], folders: Mapping[str, str | None], *, seeds: int
) -> list[Job]:
    """List the runs of a plan, all variants of one seed and video before the next."""
    videos = sorted({video_of(stem) for stem in _stems(folders["own"])})
    if folders.get("val"):
        videos = [Path(str(folders["val"])).name]
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

    data has repeat_own, extra (whether it is used), drawn_videos (of 4 frames each), their
    table_work_frac, drawn_first_epochs (of a run on the drawn frames alone, with whose weights the
    run proper starts) and drawn_after (whether the run proper has drawn frames too).
    Raises ValueError for drawn_first_epochs without drawn_videos.
    """
    preset = f"{changes.get('train', 'default')}.yaml"
    sections: dict[str, dict[str, Any]] = {
        "data": {
            "repeat_own": 1,
            "extra": True,
            "drawn_videos": 0,
            "table_work_frac": 0.0,
            "drawn_first_epochs": 0,
            "drawn_after": True,
        },
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
    data = sections["data"]
    if data["drawn_first_epochs"] and not data["drawn_videos"]:
        raise ValueError(
            f"data.drawn_first_epochs is {data['drawn_first_epochs']} but data.drawn_videos is 0; "
            "expected 1 or more"
        )
    return sections


def run_jobs(jobs: Sequence[Job], out: Path, *, workers: int) -> None:
    """Run the jobs in processes of their own and append their rows as they end."""
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for worker in range(workers):
        places.put(worker % max(torch.cuda.device_count(), 1))
    threads = max(1, min(THREADS_PER_WORKER, available_cpus() // workers))
    with context.Pool(workers, _settle, (places, threads)) as pool, out.open("a") as stream:
        for row in tqdm(pool.imap_unordered(run_job, jobs), total=len(jobs), unit="run"):
            stream.write(json.dumps(row, sort_keys=True) + "\n")
            stream.flush()


def _settle(places: Any, threads: int) -> None:
    """Let this worker see one GPU alone, before anything has looked for them, and a few cores."""
    os.environ["CUDA_VISIBLE_DEVICES"] = str(places.get())
    torch.set_num_threads(threads)


def run_job(job: Job) -> dict[str, Any]:
    """Train, on drawn frames first if so wanted, and validate once; returns the row."""
    config = dataclasses.replace(section_of(job.settings, TrainConfig), seed=job.seed)
    model = section_of(job.settings, ModelConfig)
    postprocess = Postprocess(**dataclasses.asdict(section_of(job.settings, PostprocessConfig)))
    fit_network = functools.partial(fit, postprocess=postprocess, work_dir=None)
    train, val = load_fold(job, model.input_wh)
    first_epochs = int(job.settings["data"]["drawn_first_epochs"])
    drawn = load_drawn(job, model.input_wh) if first_epochs else None
    num_images = len(train) * config.epochs
    started = time.perf_counter()
    network = build_model(model, seed=job.seed)
    if drawn is not None:
        fit_network(network, drawn, None, dataclasses.replace(config, epochs=first_epochs))
        num_images += len(drawn) * first_epochs
    config = dataclasses.replace(config, validate_every_epochs=config.epochs)
    result = fit_network(network, train, val, config)
    seconds = time.perf_counter() - started
    return {
        "variant": job.variant,
        "video": job.video,
        "seed": job.seed,
        **{name: round(result.metrics[name], 4) for name in FIGURES},
        "images": num_images,
        "seconds": round(seconds, 1),
    }


def load_fold(job: Job, input_wh: Sequence[int]) -> tuple[Samples, Samples]:
    """Load the frames of the run proper and those of the video held out."""
    data = job.settings["data"]
    own = _stems(job.folders["own"])
    val_folder = job.folders.get("val")
    held_out = [stem for stem in own if video_of(stem) == job.video]
    kept = own if val_folder else [stem for stem in own if video_of(stem) != job.video]
    kept = kept * int(data["repeat_own"])
    parts = [load_samples(Path(str(job.folders["own"])), kept, input_wh=input_wh)]
    if data["extra"] and job.folders["extra"] is not None:
        extra = Path(job.folders["extra"])
        parts.append(load_samples(extra, _stems(str(extra)), input_wh=input_wh))
    if data["drawn_videos"] and data["drawn_after"]:
        parts.append(load_drawn(job, input_wh))
    if val_folder:
        val = load_samples(Path(val_folder), _stems(val_folder), input_wh=input_wh)
    else:
        val = load_samples(Path(str(job.folders["own"])), held_out, input_wh=input_wh)
    return join_samples(parts), val


def load_drawn(job: Job, input_wh: Sequence[int]) -> Samples:
    """Load the frames of the first drawn videos, as many as the variant wants."""
    work = float(job.settings["data"]["table_work_frac"])
    drawn = drawn_folder(Path(str(job.folders["drawn"])), work)
    videos = sorted({video_of(stem) for stem in list_stems(drawn, "train")})
    chosen = set(videos[: int(job.settings["data"]["drawn_videos"])])
    stems = [stem for stem in list_stems(drawn, "train") if video_of(stem) in chosen]
    return load_samples(drawn, stems, input_wh=input_wh)


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
