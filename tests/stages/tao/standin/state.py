"""The state folder that the stand-ins share. Imports the standard library alone: `docker` starts
as a plain script, without the project."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(folder: Path, name: str, default: Any) -> Any:
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else default


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def note(folder: Path, name: str, content: Any) -> None:
    """Append a record."""
    with locked(folder), (folder / name).open("a") as stream:
        stream.write(json.dumps(content) + "\n")


def records(folder: Path, name: str) -> list[Any]:
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def take_fault(folder: Path, task: str) -> str | None:
    """Return what goes wrong with a task this once, or None."""
    with locked(folder):
        scenario = read(folder, "scenario.json", {})
        fault = scenario.pop(task, None)
        write(folder, "scenario.json", scenario)
    return fault
