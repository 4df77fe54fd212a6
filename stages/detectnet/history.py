"""A training's epochs: the table for `dvc plots`, and the names for the tracker."""

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


def log_row(row: Mapping[str, float]) -> dict[str, float]:
    """Name a history row's values for the tracker: train/loss, val/ap50, ..."""
    named = {}
    for name, value in row.items():
        if name != "epoch":
            named[f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"] = value
    return named
