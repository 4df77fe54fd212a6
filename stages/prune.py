"""Stage `prune`: models/train -> models/prune, the network without its least important channels.

Run: dvc repro prune, or python -m stages.prune --out DIR (seconds). The layers are tabled in
results/prune/layers.csv, the totals in results/prune.json. results/prune/sensitivity.csv and .png
say what pruning each layer group alone costs in AP50 on validation frames and what it saves.
How fast both networks are stands in results/evaluate/{train,prune}_speed.json.
"""

import csv
import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.core.model_json import read_model_json
from stages import _tao
from stages._schema import BackendConfig
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import load_float_model, save_model
from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.compute import choose_device
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.figures import draw_sensitivity
from stages.detectnet.layer_costs import LayerChange
from stages.detectnet.model import count_parameters
from stages.detectnet.pruning import prune_model
from stages.detectnet.sensitivity import Sensitivity, measure_sensitivity

LOGGER = logging.getLogger(__name__)
KITTI = Path("data/kitti")
SPLIT = Path("data/split")
TRAINED = Path("models/train")
PRUNED = Path("models/prune")
RESULTS = Path("results/prune")


def run(stage: Stage) -> Summary:
    """Prune, and write the network, the tables of layers and of sensitivity, and the totals."""
    folder, backend = stage.dep(TRAINED), stage.section(BackendConfig)
    config = stage.section(PruneConfig)
    if backend.is_tao:
        return _tao.prune(stage, backend.tao, config, folder)
    postprocess = read_model_json(folder).postprocess
    assert postprocess is not None  # model.json's schema wants one for detectors
    model = load_float_model(folder)
    pruned = prune_model(model, config)
    num_images, input_wh = config.sensitivity.images, model.architecture.input_wh
    samples = load_val_samples(stage, num_images=num_images, input_wh=input_wh)
    with stage.writing(PRUNED) as target:
        save_model(target, pruned.model, postprocess=postprocess)
    with stage.writing(RESULTS) as results:
        write_table(results / "layers.csv", pruned.layers)
        if samples is not None:
            rows = measure_sensitivity(
                model, samples, config, postprocess=postprocess, device=choose_device()
            )
            write_table(results / "sensitivity.csv", rows)
            draw_where_possible(results / "sensitivity.png", rows, num_images=len(samples))
    if (stage.out(RESULTS) / "sensitivity.png").is_file():
        stage.tracker.log_figure(stage.out(RESULTS) / "sensitivity.png")
    before, after = count_parameters(model), count_parameters(pruned.model)
    macs_before = sum(layer.macs_before for layer in pruned.layers)
    macs_after = sum(layer.macs_after for layer in pruned.layers)
    stage.write_metrics(
        {
            "params_before": before,
            "params_after": after,
            "params_frac": after / before,
            "macs_before": macs_before,
            "macs_after": macs_after,
            "macs_frac": macs_after / macs_before,
            "threshold": pruned.threshold,
        }
    )
    counts = {"parameters before": before, "after": after, "kept": after / before}
    return Summary(counts, stage.out(PRUNED))


def draw_where_possible(path: Path, rows: Sequence[Sensitivity], *, num_images: int) -> None:
    """Draw the table; without matplotlib, as on a bare GPU node, say that there is no picture."""
    if importlib.util.find_spec("matplotlib") is None:
        LOGGER.info("prune: no %s, matplotlib is not installed; the table is there", path.name)
    else:
        draw_sensitivity(path, rows, num_images=num_images)


def load_val_samples(stage: Stage, *, num_images: int, input_wh: Sequence[int]) -> Samples | None:
    """Read num_images validation frames, at most all, evenly spread; None, with a reason in the
    log, when that leaves no box to find.
    """
    if not num_images:
        return None
    stems = (stage.dep(SPLIT) / "val.txt").read_text().split()
    places = np.linspace(0, len(stems) - 1, min(num_images, len(stems))).round().astype(int)
    if len(places):
        chosen = [stems[place] for place in places]
        samples = load_samples(stage.dep(KITTI), chosen, input_wh=input_wh, desc="val")
        if any(len(boxes) for boxes in samples.boxes):
            return samples
    LOGGER.info("prune: no sensitivity table, none of %d validation frames has a box", len(places))
    return None


def write_table(path: Path, rows: Sequence[LayerChange] | Sequence[Sensitivity]) -> None:
    """Write a header and one line per row, fractions with six decimals."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows[0]._fields)
        for row in rows:
            writer.writerow([round(v, 6) if isinstance(v, float) else v for v in row])


if __name__ == "__main__":
    sys.exit(main("prune", run))
