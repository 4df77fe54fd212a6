"""What a person has said of each crop: OUT/labels.json, `{"schema": 1, "labels": {name: class}}`.

A crop without an entry has its suggestion at best; only what a person said or confirmed is
exported, unless asked otherwise. "discard" throws a crop away.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stages._files import write_json
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.journal import Crop
from stages.gesturenet.labelling.naming import DISCARD

FILE_NAME = "labels.json"
SCHEMA = 1


class Tally(NamedTuple):
    """How many crops a person gave to each class, threw away, and has not looked at."""

    classes: dict[str, int]
    discarded: int
    unsorted: int


def read_labels(out: Path, *, classes: Sequence[str]) -> dict[str, str]:
    """Return the class by crop name; nothing when there is no file.

    Names without a crop stay: it may come back. Raises: GestureError for a file that is not what
    this module writes, or an unknown class.
    """
    path = out / FILE_NAME
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        labels = dict(document["labels"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GestureError(
            f"{path} cannot be read ({type(error).__name__}: {error}); expected "
            f'{{"schema": {SCHEMA}, "labels": {{name: class}}}}; correct it, or remove it to '
            "sort anew"
        ) from None
    known = (*classes, DISCARD)
    for name, label in labels.items():
        if label not in known:
            raise GestureError(
                f"{path}: {name} has the class {label!r}, known: {', '.join(known)}; correct it"
            )
    return labels


def write_labels(out: Path, labels: Mapping[str, str]) -> None:
    """Replace labels.json as a whole; a kill leaves the earlier or the new one."""
    write_json(out / FILE_NAME, {"schema": SCHEMA, "labels": dict(labels)})


def check_changes(
    changes: object, *, names: Collection[str], classes: Sequence[str]
) -> dict[str, str | None]:
    """Return changes {name: class, "discard" or None} that came from outside, all of them checked.

    None takes back what was said. Raises: GestureError for anything else.
    """
    if not isinstance(changes, dict):
        raise GestureError("expected an object of class by crop name")
    for name, label in changes.items():
        if name not in names:
            raise GestureError("one of the names is no crop of this folder; reload the page")
        if label is not None and label not in (*classes, DISCARD):
            raise GestureError(f"unknown class; known: {', '.join((*classes, DISCARD))}")
    return changes


def apply_changes(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return labels with the changes in them."""
    merged = {**labels, **changes}
    return {name: label for name, label in merged.items() if label is not None}


def accept_suggestions(crops: Sequence[Crop], labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels in which every crop without one has its suggestion, where it has one."""
    suggested = {crop.name: crop.suggestion for crop in crops if crop.suggestion is not None}
    return {**suggested, **labels}


def count_labels(
    crops: Sequence[Crop], labels: Mapping[str, str], *, classes: Sequence[str]
) -> Tally:
    """Count the crops by what a person said of them."""
    said = [labels.get(crop.name) for crop in crops]
    return Tally(
        {name: said.count(name) for name in classes}, said.count(DISCARD), said.count(None)
    )
