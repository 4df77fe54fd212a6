"""A machine with docker, a GPU and a login, all of them stand-ins; see standin/."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.tao.standin import state
from tests.stages.tao.standin.engine import serve

STANDIN = Path(__file__).parent / "standin"
IMAGES = {
    "tlt3": "nvcr.io/nvidia/tao/tao-toolkit-tf:v3.21.11-tf1.15.4-py3",
    "tao3": "nvcr.io/nvidia/tao/tao-toolkit-tf:v3.22.05-tf1.15.4-py3",
    "tao4": "nvcr.io/nvidia/tao/tao-toolkit:4.0.0-tf1.15.5",
    "tao5": "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5",
    "tao6": "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5",
}


class Machine:
    """What a test changes and asks of the machine."""

    def __init__(self, folder: Path, binaries: Path, home: Path) -> None:
        self.folder = folder
        self.binaries = binaries
        self.home = home

    def set_generation(self, name: str) -> None:
        """Say which image is there, and so which kind of files it writes."""
        state.write(self.folder, "generation.json", name)
        state.write(self.folder, "images.json", [IMAGES[name]])

    def break_next(self, task: str, fault: str) -> None:
        """Let the next run of a sub-task (or the next `pull`) go wrong once."""
        state.write(self.folder, "scenario.json", {task: fault})

    def commands(self) -> list[list[str]]:
        """Return what `docker` was called with for TAO, oldest first."""
        calls = state.records(self.folder, "commands.jsonl")
        return [call for call in calls if "detectnet_v2" in call]

    def tasks(self) -> list[list[str]]:
        """Return the sub-tasks with their arguments."""
        return [call[call.index("detectnet_v2") + 1 :] for call in self.commands()]

    def requests(self) -> list[dict[str, Any]]:
        """Return what the engine was asked to do."""
        return state.records(self.folder, "requests.jsonl")

    def script(self, name: str, body: str) -> Path:
        """Put a shell program on PATH."""
        path = self.binaries / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def log_in(self, registry: str = "nvcr.io") -> None:
        """Write the file that `docker login` writes."""
        (self.home / ".docker").mkdir(exist_ok=True)
        content = {"auths": {registry: {"auth": "dXNlcjpzdGFuZC1pbg=="}}}
        (self.home / ".docker/config.json").write_text(json.dumps(content))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine on which everything is in order, with the image of TAO 5."""
    # Not tmp_path: a unix socket's path has room for about 100 characters.
    place = Path(tempfile.mkdtemp(prefix="tao"))
    folder, binaries, home = (place / name for name in ("state", "bin", "home"))
    for path in (folder, binaries, home):
        path.mkdir()
    machine = Machine(folder, binaries, home)
    machine.set_generation("tao5")
    machine.script("docker", f'exec {sys.executable} {STANDIN / "docker.py"} "$@"')
    machine.script("nvidia-smi", "echo '550.54.15, NVIDIA H100'\necho '550.54.15, NVIDIA H100'")
    machine.log_in()
    monkeypatch.setenv("PATH", f"{binaries}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/docker.sock")
    monkeypatch.setenv("STANDIN_STATE", str(folder))
    monkeypatch.setattr("stages.tao.steps.POLL_S", 0.02)
    usage = shutil.disk_usage("/")._replace(free=10**12)
    monkeypatch.setattr("stages.tao.preflight.shutil.disk_usage", lambda path: usage)
    for name in ("TAO_KEY", "OVERRIDE_REGISTRY", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with serve(place / "docker.sock", folder):
        yield machine
    shutil.rmtree(place)
