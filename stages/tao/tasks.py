"""The steps of which the stages are made: TFRecords, train, prune, export, evaluate, inference."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages._files import atomic
from stages.datasets.trees import link_or_copy
from stages.detectnet.compression_config import PruneConfig
from stages.tao import commands
from stages.tao.errors import TaoError
from stages.tao.model_folder import STEM
from stages.tao.sources import write_source
from stages.tao.spec import Source, render_tfrecords
from stages.tao.status import EpochRow, history_row
from stages.tao.steps import Bench, Done, OnEpoch, Step, run_step

RATIO = re.compile(r"Pruning ratio \(pruned model / original model\): ([0-9.eE+-]+)")
MEAN_AP = re.compile(r"Mean average_precision \(in %\): ([0-9.eE+-]+)")
CACHE, RANGES = "calibration_qat.bin", "ranges.json"


class Trained(NamedTuple):
    """A trained network, and its epochs as rows of history.csv."""

    model: Path
    history: list[dict[str, float]]


def place_side(
    bench: Bench, side: str, kitti: Path, stems: Sequence[str], *, input_wh: tuple[int, int]
) -> Source:
    """Hand one side of the split to TAO: frames, labels and TFRecords; returns its places."""
    folder = bench.work / "sources" / side
    if not folder.is_dir():
        with atomic(folder) as aside:
            write_source(
                aside, kitti, stems, input_wh=input_wh, frames=bench.config.frames, desc=side
            )
    prefix = bench.folder("tfrecords") / side
    source = Source(bench.inside(prefix), bench.inside(folder), len(stems))
    name = f"dataset_convert_{side}"
    results = bench.folder("results") / name
    arguments = commands.dataset_convert(
        bench.generation,
        spec=write_spec(bench, name, render_tfrecords(source, bench.config)),
        prefix=source.tfrecords,
        results=bench.inside(results),
    )
    outputs = [f"tfrecords/{side}-fold-*"]
    run_step(bench, Step(name, arguments, outputs, results, bench.generation.is_open))
    return source


def write_spec(bench: Bench, name: str, text: str) -> str:
    """Write a spec below the work folder; returns the container's name of it."""
    path = bench.folder("specs") / f"{name}.txt"
    path.write_text(text)
    return bench.inside(path)


def place_file(bench: Bench, source: Path, name: str) -> Path:
    """Bring a file to where the containers see it."""
    target = bench.folder("models") / name
    target.unlink(missing_ok=True)
    link_or_copy(source, target)
    return target


def train(bench: Bench, name: str, spec: str, *, on_epoch: OnEpoch | None = None) -> Trained:
    """Train by a spec (its text), or go on with what an interrupted run left."""
    results = bench.folder("results") / name
    output = f"results/{name}/weights/{STEM}{bench.generation.model_suffix}"
    arguments = commands.train(
        bench.config,
        spec=write_spec(bench, name, spec),
        results=bench.inside(results),
        name=STEM,
        key=bench.key,
    )
    rows: dict[int, EpochRow] = {}

    def take(row: EpochRow) -> None:
        rows[row.epoch] = row
        if on_epoch:
            on_epoch(row)

    step = Step(name, arguments, [output], results, bench.generation.is_open, resumes=True)
    run_step(bench, step, on_epoch=take)
    history = [history_row(rows[number]) for number in sorted(rows)]
    return Trained(bench.work / output, history)


def prune(bench: Bench, config: PruneConfig, model: Path) -> tuple[Path, float | None]:
    """Prune; returns the pruned model, and the share of the parameters that is left."""
    results = bench.folder("results") / "prune"
    output = bench.folder("models") / f"pruned{bench.generation.model_suffix}"
    arguments = commands.prune(
        bench.generation,
        config,
        model=bench.inside(model),
        output=bench.inside(output),
        results=bench.inside(results),
        key=bench.key,
    )
    done = _run(bench, "prune", arguments, [output])
    ratio: object = done.progress.kpi.get("pruning_ratio")
    return output, ratio if isinstance(ratio, float) else _find_number(RATIO, done)


def export(bench: Bench, model: Path, spec: str, *, quantized: bool) -> tuple[Path, Path | None]:
    """Export; returns the exported file, and of a quantized network the file of its ranges."""
    generation = bench.generation
    results = bench.folder("results") / "export"
    output = bench.folder("models") / f"{STEM}{generation.export_suffix}"
    ranges = bench.folder("models") / (RANGES if generation.is_open else CACHE)
    arguments = commands.export(
        generation,
        spec=write_spec(bench, "export", spec),
        model=bench.inside(model),
        output=bench.inside(output),
        results=bench.inside(results),
        key=bench.key,
        ranges=bench.inside(ranges) if quantized else None,
    )
    _run(bench, "export", arguments, [output, *([ranges] if quantized else [])])
    return output, ranges if quantized else None


def evaluate(bench: Bench, model: Path, spec: str) -> float:
    """Return TAO's own mean average precision on the spec's validation source, in [0, 1]."""
    results = bench.folder("results") / "evaluate"
    arguments = commands.evaluate(
        bench.generation,
        spec=write_spec(bench, "evaluate", spec),
        model=bench.inside(model),
        results=bench.inside(results),
        key=bench.key,
    )
    done = _run(bench, "evaluate", arguments, [])
    percent: object = done.progress.kpi.get("mean average precision")
    if not isinstance(percent, int | float):
        percent = _find_number(MEAN_AP, done)
    if percent is None:
        raise TaoError(
            f"tao evaluate ended without a mean average precision; see {bench.work}/logs"
        )
    return float(percent) / 100.0


def infer(bench: Bench, model: Path, spec: str, images: str) -> Path:
    """Detect in a folder of frames; returns the folder of KITTI labels with scores."""
    output = bench.folder("results") / "inference"
    arguments = commands.inference(
        bench.generation,
        spec=write_spec(bench, "inference", spec),
        images=images,
        output=bench.inside(output),
        model=bench.inside(model),
        key=bench.key,
    )
    step = Step("inference", arguments, ["results/inference/labels/*"], output, False)
    run_step(bench, step)
    return output / "labels"


def _run(bench: Bench, name: str, arguments: Sequence[str], outputs: Sequence[Path]) -> Done:
    places = [path.relative_to(bench.work).as_posix() for path in outputs]
    results = bench.folder("results") / name
    return run_step(bench, Step(name, arguments, places, results, bench.generation.is_open))


def _find_number(pattern: re.Pattern[str], done: Done) -> float | None:
    found = [match for line in done.lines if (match := pattern.search(line))]
    return float(found[-1][1]) if found else None
