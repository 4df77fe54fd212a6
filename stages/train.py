"""Stage `train`: data/kitti and data/split -> models/train, the detector at full width.

Run: dvc repro train, or python -m stages.train train.epochs=1 --out DIR (about 100 s on 2 CPU
cores with model=tiny). On several GPUs or machines: torchrun -m stages.train --out DIR. A killed
run goes on after its last whole epoch. results/train/history.csv has a line per epoch,
results/train.json the validation AP.
"""

import dataclasses
import sys
from pathlib import Path

from deploy.core.cluster import Postprocess
from stages import _tao
from stages._files import hash_paths
from stages._schema import BackendConfig, PostprocessConfig
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import save_model
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.detectnet.data import Samples, load_samples, require_boxes
from stages.detectnet.history import write_history
from stages.detectnet.keras_weights import SUFFIXES
from stages.detectnet.model import (
    DetectNet,
    build_architecture,
    build_network,
    count_parameters,
)
from stages.detectnet.pretrained import take_weights
from stages.detectnet.training import FitResult, fit
from stages.tao.ngc import NAMES, bring_model, check_file, find_model

KITTI = Path("data/kitti")
SPLIT = Path("data/split")
MODEL = Path("models/train")
RESULTS = Path("results/train")


def run(stage: Stage) -> Summary:
    """Build the network, train it, and write it with its history and validation metrics."""
    config, backend = stage.section(TrainConfig), stage.section(BackendConfig)
    postprocess = Postprocess(**dataclasses.asdict(stage.section(PostprocessConfig)))
    if backend.is_tao:
        return _tao.train(stage, backend.tao, stage.section(ModelConfig), config, postprocess)
    model = build_model(stage.section(ModelConfig), seed=config.seed)
    samples = {side: _load(stage, side) for side in ("train", "val")}
    result = fit(
        model,
        samples["train"],
        samples["val"],
        config,
        postprocess=postprocess,
        work_dir=_checkpoint_dir(stage),
        log=stage.tracker.log_metrics,
    )
    if not result.is_main:
        # A helper process of a run on several devices: the first process writes everything.
        sys.exit(0)
    _write(stage, result, postprocess)
    counts = {"images": len(samples["train"]), "epochs": config.epochs, **result.metrics}
    return Summary(counts, stage.out(MODEL))


def build_model(config: ModelConfig, *, seed: int) -> DetectNet:
    """Make a network of random weights, or of those of config.pretrained where they fit.

    Equal seeds give equal weights. Raises DetectNetError as take_weights does, and as
    find_pretrained does.
    """
    architecture = build_architecture(
        config.num_layers,
        width=config.width,
        input_wh=config.input_wh,
        all_projections=config.all_projections,
    )
    model = build_network(architecture, seed=seed)
    pretrained = find_pretrained(config)
    if pretrained is not None:
        take_weights(model, pretrained)
    return model


def find_pretrained(config: ModelConfig) -> Path | None:
    """Return the place of config.pretrained, fetched where it is a name of NVIDIA's catalogue.

    Raises TaoError for another depth or checksum, DatasetError when it cannot be downloaded.
    """
    if config.pretrained is None:
        return None
    if config.pretrained in NAMES:
        wanted = find_model(config.pretrained, num_layers=config.num_layers)
        return bring_model(wanted, sha256=config.pretrained_sha256)
    path = Path(config.pretrained).expanduser()
    is_keras = path.suffix in SUFFIXES and path.is_file()
    return check_file(path, config.pretrained_sha256) if is_keras else path


def _checkpoint_dir(stage: Stage) -> Path:
    """Return the work folder, or one in it that belongs to these very pretrained weights.

    dvc.yaml cannot declare them, and a run must not resume one that began with others.
    """
    pretrained = find_pretrained(stage.section(ModelConfig))
    if pretrained is None:
        return stage.work_dir()
    return stage.work_dir() / hash_paths([pretrained])[:16]


def _load(stage: Stage, side: str) -> Samples:
    stems = (stage.dep(SPLIT) / f"{side}.txt").read_text().split()
    input_wh = stage.section(ModelConfig).input_wh
    samples = load_samples(
        stage.dep(KITTI), stems, input_wh=input_wh, cache_dir=stage.work_dir(), desc=side
    )
    return require_boxes(samples, stage.dep(KITTI)) if side == "train" else samples


def _write(stage: Stage, result: FitResult, postprocess: Postprocess) -> None:
    model = result.model
    assert isinstance(model, DetectNet)
    with stage.writing(MODEL) as folder:
        save_model(folder, model, postprocess=postprocess)
    with stage.writing(RESULTS) as folder:
        write_history(folder / "history.csv", result.history)
    last = result.history[-1]
    losses = {name: last[name] for name in ("loss", "coverage_loss", "bbox_loss")}
    stage.write_metrics({"params": count_parameters(model), **losses, **result.metrics})


if __name__ == "__main__":
    sys.exit(main("train", run))
