"""The table of a training's epochs, for `dvc plots`."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one CSV line per epoch; a value that an epoch lacks (no validation) stays empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
