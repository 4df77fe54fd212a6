"""Stage `retrain`: models/prune -> models/retrain, trained on and rounded to 8 bits (QAT).

Run: dvc repro retrain, or python -m stages.retrain retrain.qat_fit.epochs=1 --out DIR (about a
minute on 2 CPU cores with model=tiny). A killed run goes on after its last whole epoch.
results/retrain.json has the validation AP after both phases, results/retrain/history.csv the
epochs.
"""

import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.core.cluster import Postprocess
from stages._schema import PostprocessConfig
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import load_checkpoint, save_model
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.retraining import Retrained, retrain_model

KITTI = Path("data/kitti")
SPLIT = Path("data/split")
PRUNED = Path("models/prune")
RETRAINED = Path("models/retrain")
RESULTS = Path("results/retrain")


def run(stage: Stage) -> Summary:
    """Train on, quantize, train the rounded network, and write it with its history."""
    model = load_checkpoint(stage.dep(PRUNED)).model
    postprocess = Postprocess(**dataclasses.asdict(stage.section(PostprocessConfig)))
    input_wh = model.architecture.input_wh
    samples = {side: _load(stage, side, input_wh) for side in ("train", "val")}
    retrained = retrain_model(
        model,
        samples["train"],
        samples["val"],
        stage.section(RetrainConfig),
        postprocess=postprocess,
        work_dir=stage.work_dir(),
        log=stage.tracker.log_metrics,
    )
    counts = {"images": len(samples["train"]), "epochs": len(retrained.history)}
    if retrained.qat_result.is_main:
        _write(stage, retrained, postprocess)
    return Summary(counts, stage.out(RETRAINED))


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write one line per epoch; a value that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)


def _load(stage: Stage, side: str, input_wh: list[int]) -> Samples:
    stems = (stage.dep(SPLIT) / f"{side}.txt").read_text().split()
    return load_samples(
        stage.dep(KITTI), stems, input_wh=input_wh, cache_dir=stage.work_dir(), desc=side
    )


def _write(stage: Stage, retrained: Retrained, postprocess: Postprocess) -> None:
    with stage.writing(RETRAINED) as folder:
        save_model(folder, retrained.model, postprocess=postprocess)
    with stage.writing(RESULTS) as results:
        write_history(results / "history.csv", retrained.history)
    phases = {"qat": retrained.qat_result, "float": retrained.float_result}
    metrics: dict[str, float] = {}
    for phase, result in phases.items():
        prefix = "" if phase == "qat" else f"{phase}_"
        for name, value in (result.metrics if result else {}).items():
            metrics[f"{prefix}{name}"] = value
    stage.write_metrics({"epochs": len(retrained.history), **metrics})


if __name__ == "__main__":
    sys.exit(main("retrain", run))
