"""Writes sorted crops as class folders: DIR/<class>/<source>_<frame>-<n>.jpg."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from stages._files import atomic
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.journal import PICTURES, Crop
from stages.gesturenet.labelling.naming import DISCARD

FOLDER = "classes"


def write_class_folders(
    out: Path,
    folder: Path,
    crops: Sequence[Crop],
    labels: Mapping[str, str],
    *,
    classes: Sequence[str],
) -> dict[str, int]:
    """Copy the crops of `out` that have a class into `folder`; return their number by class.

    An earlier export there is replaced as a whole. Raises: GestureError for a folder that holds
    anything else, no labelled crop, or a picture that is gone.
    """
    chosen = [(crop.name, labels[crop.name]) for crop in crops if crop.name in labels]
    chosen = [(name, label) for name, label in chosen if label != DISCARD]
    if not chosen:
        raise GestureError(
            f"no crop of {out} has been sorted, {len(crops)} are there; sort them on the page: "
            f"python -m stages.gesturenet.label --out {out}"
        )
    _check_folder(folder, names={crop.name for crop in crops}, classes=classes)
    with atomic(folder) as aside:
        for name, label in chosen:
            (aside / label).mkdir(exist_ok=True)
            _copy(out / PICTURES / name, aside / label / name)
    given = [label for _, label in chosen]
    return {label: given.count(label) for label in classes}


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise GestureError(f"{source} is gone; cut it again: run with --source as before")
    shutil.copyfile(source, target)


def _check_folder(folder: Path, *, names: Collection[str], classes: Sequence[str]) -> None:
    """Only an earlier export of the same crops may be replaced."""
    if not folder.exists():
        return
    entries = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    for path in entries:
        where = path.relative_to(folder).parts
        is_class = len(where) == 1 and path.is_dir() and where[0] in classes
        is_crop = len(where) == 2 and path.name in names
        if not (is_class or is_crop):
            raise GestureError(
                f"{folder} holds {path.name}, which is no earlier export of these crops; give an "
                "empty or new folder: --export DIR"
            )
