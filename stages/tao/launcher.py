"""Start a sub-task of detectnet_v2 in its container, through NVIDIA's launcher or `docker run`.

The container sees one folder, the work folder of the stage, always at the same place, so that
specs and commands are equal from run to run and hold no path of this machine. What the launcher
does: facts in docs/tao.md, "The launcher's ways". It needs the terminal left out ("tty": false, or
up to 4.x a pseudo-terminal), must not see CI's variables, and its exit status says nothing.
"""

import contextlib
import json
import os
import pty
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from stages.tao.commands import check_safe
from stages.tao.config import TaoConfig
from stages.tao.engine import container_user
from stages.tao.environment import ensure_launcher
from stages.tao.errors import TaoError
from stages.tao.generations import REGISTRY, Generation

CONTAINER = "/workspace/hands"
MOUNTS_FILE = "mounts.json"
KEPT_LINES = 200
HIDDEN = "<key>"
STOP_S = 30.0
SHARED_MEMORY = "16g"
ULIMITS = {"memlock": -1, "stack": 67108864}
# A container's user has no home there; nothing is sent home.
VARIABLES = {"HOME": "/tmp", "TELEMETRY_OPT_OUT": "1"}
# CI_PROJECT_DIR makes the launcher run its container another way, TAO_DOCKER_DISABLE none at all;
# PYTHONPATH would mix this environment's packages into the launcher's.
DROPPED = ("CI_PROJECT_DIR", "TAO_DOCKER_DISABLE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class Task:
    """A started sub-task. lines: the last ones that it printed, the key hidden."""

    def __init__(self, process: "subprocess.Popen[bytes]", lines: deque[str]) -> None:
        self.process = process
        self.lines = lines

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status; of the launcher it is 0 whatever happened in the container."""
        return self.process.returncode


def image_name(config: TaoConfig, generation: Generation) -> str:
    """Return the image with its registry, as it will be used."""
    if config.image is not None:
        return config.image
    registry = os.environ.get("OVERRIDE_REGISTRY") or REGISTRY
    of_launcher = config.via == "launcher" and generation.launcher_image
    return f"{registry}/{of_launcher or generation.image}"


@contextlib.contextmanager
def start(
    arguments: Sequence[str],
    config: TaoConfig,
    generation: Generation,
    *,
    work: Path,
    log: Path,
    secret: str | None,
) -> Iterator[Task]:
    """Start `detectnet_v2 <arguments>`; it is stopped when the block is left before its end.

    work: the folder that the container sees as CONTAINER. log: gets all output. secret: the key
    among the arguments, which neither log nor lines show.
    Raises TaoError for arguments or folders that would not arrive, and as ensure_launcher does.
    """
    check_safe(list(arguments), secret=secret)
    folder = work.resolve()
    if ":" in str(folder):
        raise TaoError(f"{folder} has a colon, at which docker cuts paths; move the repository")
    if config.via == "docker":
        command = docker_command(arguments, config, generation, work=folder)
    else:
        script = ensure_launcher(generation)
        command = [str(script.resolve()), *generation.command[1:], *arguments]
        write_mounts(folder / MOUNTS_FILE, generation, work=folder)
    variables = {name: value for name, value in os.environ.items() if name not in DROPPED}
    variables["LAUNCHER_MOUNTS"] = str(folder / MOUNTS_FILE)
    needs_terminal = config.via == "launcher" and not generation.has_tty_option
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as stream, _spawn(command, variables, terminal=needs_terminal) as spawned:
        process, output = spawned
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        reader = threading.Thread(target=_pump, args=(output, stream, lines, secret), daemon=True)
        reader.start()
        try:
            yield Task(process, lines)
        finally:
            _stop(process)
            reader.join(timeout=STOP_S)


def docker_command(
    arguments: Sequence[str], config: TaoConfig, generation: Generation, *, work: Path
) -> list[str]:
    """Return the `docker run` of a sub-task: its own GPUs, user, limits and environment."""
    command = ["docker", "run", "--rm", "--init", "--gpus", "all"]
    command += ["--user", container_user(), "--shm-size", SHARED_MEMORY]
    for name, limit in ULIMITS.items():
        command += ["--ulimit", f"{name}={limit}"]
    for name, value in VARIABLES.items():
        command += ["--env", f"{name}={value}"]
    command += ["--volume", f"{work}:{CONTAINER}", "--workdir", CONTAINER]
    return [*command, image_name(config, generation), "detectnet_v2", *arguments]


def write_mounts(path: Path, generation: Generation, *, work: Path) -> None:
    """Write the file that LAUNCHER_MOUNTS names; the launcher refuses any other key in it."""
    options: dict[str, object] = {
        "user": container_user(),
        "shm_size": SHARED_MEMORY.upper(),
        "ulimits": ULIMITS,
    }
    if generation.has_tty_option:
        options["tty"] = False
    content = {
        "Mounts": [{"source": str(work), "destination": CONTAINER}],
        "Envs": [{"variable": name, "value": value} for name, value in VARIABLES.items()],
        "DockerOptions": options,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def _spawn(
    command: Sequence[str], variables: dict[str, str], *, terminal: bool
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """Start a process in a group of its own, with pipes or a pseudo-terminal."""
    if not terminal:
        process = _popen(command, variables, subprocess.DEVNULL, subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as output:
            yield process, output
        return
    ours, theirs = pty.openpty()
    try:
        process = _popen(command, variables, theirs, theirs)
    finally:
        os.close(theirs)
    with open(ours, "rb", buffering=0) as output:
        yield process, output


def _popen(
    command: Sequence[str], variables: dict[str, str], stdin: int, stdout: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            list(command),
            env=variables,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise TaoError(
            f"{command[0]} cannot be started ({error.strerror}); python -m stages.tao.check says "
            "what is missing"
        ) from error


def _pump(output: IO[bytes], log: IO[str], lines: deque[str], secret: str | None) -> None:
    """Copy output to the log until its end, line by line."""
    # EIO is a pseudo-terminal's way to end; a closed file the way of a process that was stopped.
    with contextlib.suppress(OSError, ValueError):
        for raw in output:
            text = raw.decode(errors="replace").rstrip("\r\n")
            text = text.replace(secret, HIDDEN) if secret else text
            # A progress bar rewrites its line.
            lines.append(text.rpartition("\r")[2])
            log.write(f"{text}\n")
            log.flush()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs: an interrupt lets the launcher stop its container."""
    if process.poll() is not None:
        return
    _signal(process, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_S)
    # Its children too: they would hold the output open.
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
