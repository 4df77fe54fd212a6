"""Stage `retrain`: models/prune -> models/retrain, trained on and rounded to 8 bits (QAT).

With retrain.weights=fresh only the pruned shape is kept and trained from scratch. With
retrain.distill_weight above 0 it imitates models/train, the network before pruning.

Run: dvc repro retrain, or python -m stages.retrain retrain.qat_fit.epochs=1 --out DIR (about a
minute on 2 CPU cores with model=tiny). A killed run goes on after its last whole epoch.
results/retrain.json has the validation AP after both phases, results/retrain/history.csv the
epochs.
"""

import dataclasses
import sys
from pathlib import Path

from deploy.core.cluster import Postprocess
from stages import _tao
from stages._schema import BackendConfig, PostprocessConfig
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import load_float_model, save_model
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.data import Samples, load_samples, require_boxes
from stages.detectnet.history import write_history
from stages.detectnet.retraining import Retrained, retrain_model

KITTI = Path("data/kitti")
SPLIT = Path("data/split")
TRAINED = Path("models/train")
PRUNED = Path("models/prune")
RETRAINED = Path("models/retrain")
RESULTS = Path("results/retrain")


def run(stage: Stage) -> Summary:
    """Train on, quantize, train the rounded network, and write it with its history."""
    config, backend = stage.section(RetrainConfig), stage.section(BackendConfig)
    postprocess = Postprocess(**dataclasses.asdict(stage.section(PostprocessConfig)))
    if backend.is_tao:
        return _tao.retrain(stage, backend.tao, config, stage.dep(PRUNED), postprocess)
    model = load_float_model(stage.dep(PRUNED))
    input_wh = model.architecture.input_wh
    teacher = load_float_model(stage.dep(TRAINED)) if config.distill_weight > 0.0 else None
    samples = {side: _load(stage, side, input_wh) for side in ("train", "val")}
    retrained = retrain_model(
        model,
        samples["train"],
        samples["val"],
        config,
        postprocess=postprocess,
        work_dir=stage.work_dir(),
        log=stage.tracker.log_metrics,
        teacher=teacher,
    )
    if not retrained.qat_result.is_main:
        # A helper process of a run on several devices: the first process writes everything.
        sys.exit(0)
    _write(stage, retrained, postprocess)
    counts = {"images": len(samples["train"]), "epochs": len(retrained.history)}
    return Summary({**counts, **phase_metrics(retrained)}, stage.out(RETRAINED))


def _load(stage: Stage, side: str, input_wh: list[int]) -> Samples:
    stems = (stage.dep(SPLIT) / f"{side}.txt").read_text().split()
    samples = load_samples(
        stage.dep(KITTI), stems, input_wh=input_wh, cache_dir=stage.work_dir(), desc=side
    )
    return require_boxes(samples, stage.dep(KITTI)) if side == "train" else samples


def _write(stage: Stage, retrained: Retrained, postprocess: Postprocess) -> None:
    with stage.writing(RETRAINED) as folder:
        save_model(folder, retrained.model, postprocess=postprocess)
    with stage.writing(RESULTS) as results:
        write_history(results / "history.csv", retrained.history)
    stage.write_metrics({"epochs": len(retrained.history), **phase_metrics(retrained)})


def phase_metrics(retrained: Retrained) -> dict[str, float]:
    """Return the validation AP of the quantized network; as float_* and ptq_* of the one before,
    without rounding and with it.
    """
    before = retrained.float_result.metrics if retrained.float_result else {}
    return {
        **{f"float_{name}": value for name, value in before.items()},
        **{f"ptq_{name}": value for name, value in retrained.ptq_metrics.items()},
        **retrained.qat_result.metrics,
    }


if __name__ == "__main__":
    sys.exit(main("retrain", run))
