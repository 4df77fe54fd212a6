"""Which model folders and which runtime a program takes when it is not told.

Beside deploy/ lie, in a bundle: models/detector, models/gesture and engines.json; in the
repository: models/export, models/gesture and results/engines/this-machine.json. The latter two
hold a choice of runtime that was measured, and count only on the machine that measured it.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple, Optional

from deploy.core.errors import DeployError
from deploy.core.model_json import FILE_NAME, read_model_json
from deploy.engine import AUTO
from deploy.machine import describe_machine, fingerprint

LOGGER = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
DETECTOR_FOLDERS = (Path("models/detector"), Path("models/export"))
CLASSIFIER_FOLDERS = (Path("models/gesture"),)
CHOICE_FILES = (Path("engines.json"), Path("results/engines/this-machine.json"))
CHOICE_SCHEMA = 1


class Choice(NamedTuple):
    """A runtime and a precision, either "auto" or by name."""

    runtime: str
    precision: str


def find_detector(given: Optional[str], *, root: Path = ROOT) -> Path:
    """Return the given folder, or the one beside deploy/. Raises DeployError without either."""
    found = _first_folder(given, root, DETECTOR_FOLDERS)
    if found is None:
        places = " nor ".join(str(root / folder) for folder in DETECTOR_FOLDERS)
        raise DeployError(
            f"no detector in {places}; give one with --detector DIR, or run: dvc repro"
        )
    return found


def find_classifier(given: Optional[str], *, root: Path = ROOT) -> Optional[Path]:
    """Return the given folder, or the one beside deploy/, or None: then there are no gestures."""
    return _first_folder(given, root, CLASSIFIER_FOLDERS)


def choose_engine(detector: Path, *, runtime: str, precision: str, root: Path = ROOT) -> Choice:
    """Return what was asked for; if nothing was, what was measured here for this very model."""
    if (runtime, precision) != (AUTO, AUTO):
        return Choice(runtime, precision)
    for name in CHOICE_FILES:
        recorded = _read_json(root / name)
        if recorded is not None:
            return _recorded_choice(recorded, detector, str(name))
    return Choice(AUTO, AUTO)


def _recorded_choice(recorded: Any, detector: Path, name: str) -> Choice:
    if recorded.get("schema") != CHOICE_SCHEMA:
        LOGGER.info("%s: schema %r is not read", name, recorded.get("schema"))
    elif recorded["fingerprint"] != fingerprint(describe_machine()):
        LOGGER.info("%s: measured on another machine, not used", name)
    elif recorded["sha256"] != read_model_json(detector).sha256:
        LOGGER.info("%s: measured with another model, not used", name)
    else:
        choice = Choice(recorded["choice"]["runtime"], recorded["choice"]["precision"])
        LOGGER.info("%s: %s %s was measured to be best here", name, *choice)
        return choice
    return Choice(AUTO, AUTO)


def _first_folder(given: Optional[str], root: Path, folders: Any) -> Optional[Path]:
    if given is not None:
        return Path(given)
    for folder in folders:
        if (root / folder / FILE_NAME).is_file():
            return root / folder
    return None


def _read_json(path: Path) -> Optional[Any]:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DeployError(f"{path}: is not JSON: {error}; remove it, or copy it again") from None
