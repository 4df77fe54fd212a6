"""status.json: what TAO says of a task while it runs and when it ends.

One JSON record a line, appended, also by a task that resumes. Source:
github.com/NVIDIA/tao_tensorflow1_backend cv/common/logging/logging.py and detectnet_v2's hooks.
Two traps: `graphical`, `categorical` and `kpi`, once written, stand in every later record too, so
that only records with `epoch`, and of validation those with its message, are new; and a record of
an epoch is written after its first step, a validation belongs to the last epoch before it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

EVALUATION_MESSAGE = "Evaluation metrics generated."
# An interrupt inside the training loop saves the weights as they are and then reports success.
INTERRUPTED_MESSAGE = "Training was interrupted"
SUCCESS, FAILURE = "SUCCESS", "FAILURE"


class EpochRow(NamedTuple):
    """One epoch, counted from 1; mean_ap in [0, 1] and validation_cost only where validated."""

    epoch: int
    max_epoch: int
    loss: float | None = None
    learning_rate: float | None = None
    mean_ap: float | None = None
    validation_cost: float | None = None


class StatusFile:
    """A reader that goes on where it stopped; a shortened file is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def read_new(self) -> list[dict[str, Any]]:
        """Return the whole records since the last call; lines that are no record are left out."""
        if not self.path.is_file():
            return []
        if self.path.stat().st_size < self._offset:
            self._offset, self._rest = 0, b""
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        self._offset += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [record for line in lines if (record := _parse(line)) is not None]


class Progress:
    """What the records so far say: epochs, the last status and its message."""

    def __init__(self) -> None:
        self.rows: dict[int, EpochRow] = {}
        self.status: str | None = None
        self.message = ""
        self.was_interrupted = False
        self.kpi: dict[str, Any] = {}

    def take(self, records: list[dict[str, Any]]) -> list[EpochRow]:
        """Take in new records; return the epochs that they change, in order."""
        changed: dict[int, EpochRow] = {}
        for record in records:
            self.status = str(record.get("status", self.status or ""))
            self.message = str(record.get("message") or self.message)
            self.was_interrupted |= record.get("message") == INTERRUPTED_MESSAGE
            self.kpi.update(record.get("kpi") or {})
            row = self._row(record)
            if row is not None:
                self.rows[row.epoch] = changed[row.epoch] = row
        return list(changed.values())

    def begin_again(self) -> None:
        """Forget how an earlier run ended, but keep its epochs: a resumed one goes on there."""
        self.status, self.message, self.was_interrupted = None, "", False

    @property
    def is_success(self) -> bool:
        """Whether the last record says so; the exit status of the launcher says nothing."""
        return self.status == SUCCESS and not self.was_interrupted

    def _row(self, record: Mapping[str, Any]) -> EpochRow | None:
        if isinstance(record.get("epoch"), int):
            number = int(record["epoch"]) + 1
            graphs = record.get("graphical") or {}
            known = self.rows.get(number)
            return EpochRow(
                number,
                int(record.get("max_epoch", 0)),
                _number(graphs.get("loss")),
                _number(graphs.get("learning_rate")),
                known.mean_ap if known else None,
                known.validation_cost if known else None,
            )
        if record.get("message") != EVALUATION_MESSAGE or not self.rows:
            return None
        kpi = record.get("kpi") or {}
        last = self.rows[max(self.rows)]
        percent = _number(kpi.get("mean average precision"))
        return last._replace(
            mean_ap=None if percent is None else percent / 100.0,
            validation_cost=_number(kpi.get("validation cost")),
        )


def read_progress(path: Path) -> Progress:
    """Read a whole status file; of a task that never began it is empty."""
    progress = Progress()
    progress.take(StatusFile(path).read_new())
    return progress


def history_row(row: EpochRow) -> dict[str, float]:
    """Return what an epoch has, under the names of the open backend's history."""
    named = {
        "epoch": row.epoch,
        "loss": row.loss,
        "learning_rate": row.learning_rate,
        "val_tao_map": row.mean_ap,
        "val_cost": row.validation_cost,
    }
    return {name: value for name, value in named.items() if value is not None}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _number(value: object) -> float | None:
    """Read a number; TAO writes the learning rate as text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
