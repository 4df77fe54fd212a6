"""Train a network of a pruned one's shape from scratch, for as long as both its trainings took.

Run in a pipeline's folder: python -m benchmarks.scratch --shape models/prune --out DIR
(a GPU at full size). Shape, data and settings are the pipeline's own; epochs are those of `train`
and of `retrain.float_fit` together. DIR becomes a model folder, which in the place of models/prune
the stages treat like the pruned network:
python -m stages.retrain retrain.float_fit=null retrain.batch_norm_images=0 \\
    retrain.distill_weight=0.0 && python -m stages.evaluate --step retrain
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pruning import new_network
from deploy.core.cluster import Postprocess
from stages._config import RESOLVED, load_resolved, section_of
from stages._schema import PostprocessConfig
from stages.detectnet.checkpoint import load_float_model, save_model
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.config import TrainConfig
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.model import DetectNet, count_parameters
from stages.detectnet.training import fit

KITTI = Path("data/kitti")
SPLIT = Path("data/split")


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write the model folder; print its validation figures."""
    args = parse_arguments(argv)
    settings = load_resolved(RESOLVED, args.overrides)
    config, retrain = section_of(settings, TrainConfig), section_of(settings, RetrainConfig)
    postprocess = Postprocess(**dataclasses.asdict(section_of(settings, PostprocessConfig)))
    later = 0 if retrain.float_fit is None else retrain.float_fit.epochs
    config = dataclasses.replace(config, epochs=config.epochs + later)
    architecture = load_float_model(args.shape).architecture
    train, val = (load_side(side, architecture.input_wh) for side in ("train", "val"))
    network = new_network(architecture, seed=config.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    result = fit(network, train, val, config, postprocess=postprocess, work_dir=args.out / "work")
    if not result.is_main:
        return 0
    assert isinstance(result.model, DetectNet)
    save_model(args.out, result.model, postprocess=postprocess)
    counts = {"epochs": config.epochs, "params": count_parameters(result.model)}
    figures = {**counts, **result.metrics}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scratch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--shape", type=Path, default=Path("models/prune"), help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="the new model folder")
    return parser.parse_args(argv)


def load_side(side: str, input_wh: Sequence[int]) -> Samples:
    """Load a side of the pipeline's split."""
    stems = (SPLIT / f"{side}.txt").read_text().split()
    return load_samples(KITTI, stems, input_wh=input_wh, desc=side)


if __name__ == "__main__":
    sys.exit(main())
