"""Stage `prune`: models/train -> models/prune, the network without its least important channels.

Run: dvc repro prune, or python -m stages.prune --out DIR (seconds). The layers are tabled in
results/prune/layers.csv, the totals in results/prune.json.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.core.model_json import read_model_json
from stages._stage import Stage, Summary, main
from stages.detectnet.checkpoint import load_checkpoint, save_model
from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.layer_costs import LayerChange
from stages.detectnet.model import count_parameters
from stages.detectnet.pruning import prune_model

TRAINED = Path("models/train")
PRUNED = Path("models/prune")
RESULTS = Path("results/prune")


def run(stage: Stage) -> Summary:
    """Prune, and write the network, the table of layers and the totals."""
    folder = stage.dep(TRAINED)
    postprocess = read_model_json(folder).postprocess
    assert postprocess is not None  # model.json's schema wants one for detectors
    model = load_checkpoint(folder).model
    pruned = prune_model(model, stage.section(PruneConfig))
    with stage.writing(PRUNED) as target:
        save_model(target, pruned.model, postprocess=postprocess)
    with stage.writing(RESULTS) as results:
        write_layers(results / "layers.csv", pruned.layers)
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


def write_layers(path: Path, layers: Sequence[LayerChange]) -> None:
    """Write one line per convolution, with a header."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(LayerChange._fields)
        writer.writerows(layers)


if __name__ == "__main__":
    sys.exit(main("prune", run))
