"""Builds, checks and measures the engines on a device over SSH. The stage `engines` calls it.

Everything of one bundle lives there in one folder, named by its content: pushed and unpacked once,
then a job that goes on by itself when the connection is cut, and whose finished steps are not done
again. A second run of the stage picks up wherever the first one was stopped.
"""

import hashlib
import io
import json
import logging
import shlex
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.core.model_json import read_model_json, write_model_json
from deploy.frames import Frame
from deploy.reference import write_reference
from stages._bundle import ROOT_NAME, write_archive
from stages._device_config import BoardConfig, DeviceConfig
from stages._ssh import BoardError, ConnectionCutError, Shell

LOGGER = logging.getLogger(__name__)

DEPLOY_SUFFIXES = (".html", ".json", ".py", ".txt")
# Roles of model.json that no device needs.
LEFT_OUT = ("torch",)
POLL_S = 2.0
RETRY_S = 3.0
LOG_LINES = 3

Value = TypeVar("Value")


@dataclass(frozen=True)
class BoardResult:
    """What came back: engine.json of each model, deploy.evaluate's and deploy.benchmark's JSON."""

    engines: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    benchmark: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the JSON value of results/engines/<target>.json."""
        return {
            "schema": 1,
            "engines": dict(self.engines),
            "evaluate": dict(self.evaluate),
            "benchmark": dict(self.benchmark),
        }

    def accuracy(self) -> dict[str, float]:
        """Return the figures that do not differ from run to run."""
        return {name: float(self.evaluate[name]) for name in ("ap", "ap50")}

    def latencies(self) -> dict[str, float]:
        """Return the medians in milliseconds by network and step."""
        found = {}
        for group in ("networks", "steps"):
            for name, figures in self.benchmark.get(group, {}).items():
                found[f"{name.replace(' ', '_')}_p50_ms"] = float(figures["p50_ms"])
        return found


def pack(
    deploy: Path, models: Mapping[str, Path], frames: Sequence[Frame], labels: Path, work: Path
) -> Path:
    """Write the archive for devices into `work`: programs, models with references, frames."""
    files = {
        f"deploy/{path.relative_to(deploy).as_posix()}": path.read_bytes()
        for path in sorted(deploy.rglob("*"))
        if path.suffix in DEPLOY_SUFFIXES and "__pycache__" not in path.parts
    }
    for name, source in models.items():
        folder = _copy_model(source, work / name)
        files.update({f"models/{name}/{p.name}": p.read_bytes() for p in sorted(folder.iterdir())})
    for frame in frames:
        files[f"frames/images/{frame.image_path.name}"] = frame.image_path.read_bytes()
        label = labels / f"{frame.stem}.txt"
        files[f"frames/labels/{label.name}"] = label.read_bytes()
    path = work / "devices.tar.gz"
    with path.open("wb") as stream:
        write_archive(stream, files)
    return path


def measure_board(
    target: str,
    board: BoardConfig,
    archive: Path,
    config: DeviceConfig,
    *,
    has_gesture: bool,
    poll_s: float = POLL_S,
) -> BoardResult:
    """Push, build, evaluate and benchmark on one device; return what it measured.

    Raises BoardError: no answer for board.offline_s, not done in board.timeout_s, a step failed.
    """
    shell = Shell(target, board)
    script = render_job(board, config, has_gesture=has_gesture)
    digest = hashlib.sha256(archive.read_bytes() + script.encode()).hexdigest()[:16]
    place = f"{board.folder}/{digest}"
    ends_s = time.monotonic() + board.timeout_s

    def insist(action: Callable[[], Value]) -> Value:
        return _retry(action, offline_s=board.offline_s, ends_s=ends_s, target=target)

    insist(lambda: _deliver(shell, archive, place))
    insist(lambda: start_job(shell, place, script))
    while (state := insist(lambda: _read_state(shell, place))) == "running":
        if time.monotonic() > ends_s:
            raise BoardError(f"{target}: not done in {board.timeout_s:.0f} s; it goes on there")
        time.sleep(poll_s)
    if state != "done":
        log = insist(lambda: shell.run(f"tail -n {LOG_LINES} {shlex.quote(place)}/job.log"))
        said = " ".join(log.decode(errors="replace").split())
        raise BoardError(f"{target}: {state or 'the job was stopped'}: {said}")
    return read_results(insist(lambda: _pull(shell, place)), target)


def render_job(board: BoardConfig, config: DeviceConfig, *, has_gesture: bool) -> str:
    """Return the shell script that does all steps on the device, each only once."""
    python = _quote_home(board.python)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in board.environment.items()]
    choice = ["--precision", board.precision]
    choice += [] if board.dla is None else ["--dla", str(board.dla)]
    choice += ["--strict"] if board.strict else []
    benchmark = "--source frames/images --detector models/detector --runtime tensorrt "
    benchmark += "--gesture models/gesture" if has_gesture else "--no-gesture"
    benchmark += f" --frames {config.repeats} --warm-up {config.warmup}"
    steps = {
        "build-detector": f"deploy.build --model models/detector {' '.join(choice)}",
        "build-gesture": "deploy.build --model models/gesture",
        "evaluate": "deploy.evaluate --model models/detector --runtime tensorrt --images "
        "frames/images --labels frames/labels --json results/evaluate.json",
        "benchmark": f"deploy.benchmark {benchmark} > results/benchmark.part && "
        "mv results/benchmark.part results/benchmark.json",
    }
    if not has_gesture:
        del steps["build-gesture"]
    lines = [*exports, "mkdir -p done results", "rm -f failed"]
    for name, command in steps.items():
        lines.append(
            f"test -f done/{name} || {{ {python} -m {command} && touch done/{name}; }} || "
            f"{{ echo {name} > failed; exit 1; }}"
        )
    return "\n".join([*lines, "touch done/all", ""])


def start_job(shell: Shell, place: str, script: str) -> None:
    """Start the job unless it runs or is done. It outlives the connection."""
    shell.run(
        f"cd {shlex.quote(place)}/{ROOT_NAME} || exit 1\n"
        "test -f done/all && exit 0\n"
        "test -f ../job.pid && kill -0 $(cat ../job.pid) 2>/dev/null && exit 0\n"
        "cat > ../job.sh\n"
        "setsid nohup sh ../job.sh > ../job.log 2>&1 < /dev/null &\n"
        "echo $! > ../job.pid",
        content=script.encode(),
    )


def read_results(archive: bytes, target: str) -> BoardResult:
    """Read the pulled archive. Raises BoardError when something in it is missing or damaged."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as pulled:
            files = {
                entry.name: json.loads(stream.read())
                for entry in pulled.getmembers()
                if (stream := pulled.extractfile(entry)) is not None
            }
        engines = {
            name.split("/")[1]: content
            for name, content in sorted(files.items())
            if name.endswith("/engine.json")
        }
        return BoardResult(
            engines, files["results/evaluate.json"], files["results/benchmark.json"]
        )
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise BoardError(f"{target}: its results cannot be read: {error}") from None


def _copy_model(source: Path, folder: Path) -> Path:
    """Copy what a device needs of a model folder, and add the reference answers."""
    info = read_model_json(source)
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: name for role, name in info.files.items() if role not in LEFT_OUT}
    for name in files.values():
        (folder / name).write_bytes((source / name).read_bytes())
    sha256 = {name: info.sha256[name] for name in files.values()}
    kept = info._replace(files=files, sha256=sha256)
    write_model_json(folder, kept)
    if not info.is_encrypted:
        write_reference(folder, kept)
    return folder


def _retry(action: Callable[[], Value], *, offline_s: float, ends_s: float, target: str) -> Value:
    """Repeat an action while the connection is cut; give up after offline_s without an answer."""
    gives_up_s = min(time.monotonic() + offline_s, ends_s)
    while True:
        try:
            return action()
        except ConnectionCutError as error:
            if time.monotonic() > gives_up_s:
                raise BoardError(f"{error}; given up after {offline_s:.0f} s") from None
            LOGGER.info("engines: %s, trying again", error)
            time.sleep(min(RETRY_S, offline_s / 4))


def _deliver(shell: Shell, archive: Path, place: str) -> None:
    quoted = shlex.quote(place)
    there = shell.run(f"mkdir -p {quoted} && test -f {quoted}/unpacked && echo yes || true")
    if there.strip() == b"yes":
        return
    shell.push(archive, f"{place}/{archive.name}")
    shell.run(f"cd {quoted} && tar xzf {archive.name} && rm {archive.name} && touch unpacked")


def _quote_home(path: str) -> str:
    """Quote a path for the shell there; a leading ~/ is its home folder."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


def _read_state(shell: Shell, place: str) -> str:
    """Return "running", "done", or which step failed; nothing where the job was killed."""
    script = (
        f"cd {shlex.quote(place)}/{ROOT_NAME} || exit 1\n"
        "if test -f done/all; then echo done\n"
        "elif test -f failed; then echo step $(cat failed) failed\n"
        "elif kill -0 $(cat ../job.pid) 2>/dev/null; then echo running; fi"
    )
    return shell.run(script).decode().strip()


def _pull(shell: Shell, place: str) -> bytes:
    quoted = f"{shlex.quote(place)}/{ROOT_NAME}"
    return shell.run(f"cd {quoted} && tar cf - results/*.json models/*/tensorrt/*/engine.json")
