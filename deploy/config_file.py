"""Options of a program from a file: --config run.json, or run.yaml where PyYAML is installed.

Keys are the options without their dashes: {"source": "0", "sink": ["mqtt://robot/hands"],
"no-gesture": true}. `commands` may be the rule itself instead of a file's name. What the command
line gives as well replaces what the file says.
"""

import argparse
import json
from pathlib import Path
from typing import Any, List, Sequence

from deploy.core.errors import DeployError

YAML_SUFFIXES = (".yaml", ".yml")


def config_arguments(
    path: Path, parser: argparse.ArgumentParser, given: Sequence[str]
) -> List[str]:
    """Return the file's options as arguments, without those that are given on the command line.

    Raises DeployError for a file that cannot be read, an unknown key, or a value of another kind.
    """
    actions = {
        option[2:]: action
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--config")
    }
    arguments: List[str] = []
    for key, value in _read(path).items():
        name = str(key).replace("_", "-")
        if name not in actions:
            raise DeployError(f"{path}: unknown key {key!r}, known: {', '.join(sorted(actions))}")
        if not any(word.split("=")[0] == f"--{name}" for word in given):
            arguments += _as_arguments(f"--{name}", value, actions[name], path)
    return arguments


def _as_arguments(option: str, value: Any, action: Any, path: Path) -> List[str]:
    where = f"{path}: {option[2:]} is {value!r}"
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise DeployError(f"{where}, expected true or false")
        return [option] if value else []
    if value is None:
        return []
    if isinstance(value, dict):
        return [f"{option}={json.dumps(value)}"]
    is_many = isinstance(action, argparse._AppendAction)
    if isinstance(value, list) != is_many and not (is_many and isinstance(value, str)):
        raise DeployError(f"{where}, expected {'a list' if is_many else 'one value'}")
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, (bool, list, dict)) for one in values):
        raise DeployError(f"{where}, expected text or numbers")
    return [f"{option}={one}" for one in values]


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        document = _parse_yaml(text) if path.suffix in YAML_SUFFIXES else json.loads(text)
    except OSError as error:
        raise DeployError(f"config {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DeployError(f"config {path}: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise DeployError(f"config {path} is no object; expected keys such as source and sink")
    return document


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise DeployError(
            "a YAML config needs PyYAML (6.0.1 is the last for Python 3.6); "
            "run: pip install pyyaml, or write JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
