"""Run one sub-task of TAO to its end, follow it, and decide whether it succeeded.

A step is done when its outputs are there and, where it writes a status file, when the last record
of this very run says SUCCESS; the exit status of the launcher is 0 whatever happened. What is done
is noted in the work folder, so that a stage that runs again goes on with the step that failed.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from stages._files import remove
from stages.tao.config import TaoConfig
from stages.tao.engine import remove_leftovers
from stages.tao.errors import TaoError
from stages.tao.faults import explain
from stages.tao.generations import Generation, find_generation
from stages.tao.launcher import CONTAINER, Task, start
from stages.tao.status import FAILURE, INTERRUPTED_MESSAGE, EpochRow, Progress, StatusFile

LOGGER = logging.getLogger(__name__)
POLL_S = 0.3
STATUS = "status.json"
FAILED_LINE = "Execution status: FAIL"

OnEpoch = Callable[[EpochRow], None]


class Bench(NamedTuple):
    """Where the steps of one stage run. work: seen by the containers; key: of encrypted models."""

    config: TaoConfig
    work: Path
    key: str | None

    @property
    def generation(self) -> Generation:
        """The generation's row of the table."""
        return find_generation(self.config.generation)

    def inside(self, path: Path) -> str:
        """Return the container's name of a path below work."""
        return f"{CONTAINER}/{path.relative_to(self.work).as_posix()}"

    def folder(self, *parts: str) -> Path:
        """Return a folder below work, made where it is missing."""
        path = self.work.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path


class Step(NamedTuple):
    """One sub-task: its name, arguments and outputs, files or glob patterns below work.

    results: folder of its status file. needs_status: success has to stand there; the older
    generations write none, or not for every task. resumes: results of an interrupted run are kept.
    """

    name: str
    arguments: Sequence[str]
    outputs: Sequence[str]
    results: Path
    needs_status: bool
    resumes: bool = False


class Done(NamedTuple):
    """What is left of a step: its last lines, and what its status file said."""

    lines: Sequence[str]
    progress: Progress


def run_step(bench: Bench, step: Step, *, on_epoch: OnEpoch | None = None) -> Done:
    """Run a step, or take its earlier result. Raises TaoError, one line, when it failed."""
    note = bench.folder("done") / f"{step.name}.json"
    status = StatusFile(step.results / STATUS)
    progress = Progress()
    if note.is_file() and not _missing(bench, step):
        LOGGER.info("tao: %s is done already", step.name)
        _take(progress, status, on_epoch)
        return Done(json.loads(note.read_text())["lines"], progress)
    note.unlink(missing_ok=True)
    remove_leftovers(bench.work.resolve())
    _clear(bench, step)
    _take(progress, status, on_epoch)
    progress.begin_again()
    log = bench.work / "logs" / f"{step.name}.log"
    LOGGER.info("tao: %s (%s)", step.name, log)
    with start(
        step.arguments,
        bench.config,
        bench.generation,
        work=bench.work,
        log=log,
        secret=bench.key,
    ) as task:
        _follow(task, progress, status, on_epoch, desc=f"tao {step.name}")
    _check(bench, step, task, progress, log)
    lines = list(task.lines)
    note.write_text(json.dumps({"lines": lines}) + "\n")
    return Done(lines, progress)


def _follow(
    task: Task, progress: Progress, status: StatusFile, on_epoch: OnEpoch | None, *, desc: str
) -> None:
    """Read the status file until the task has ended, and once more then."""
    with tqdm(desc=desc, unit="epoch", disable=None) as bar:
        is_running = True
        while is_running:
            is_running = task.is_running()
            _take(progress, status, on_epoch)
            bar.total = max((row.max_epoch for row in progress.rows.values()), default=0) or None
            bar.update(max(progress.rows, default=0) - bar.n)
            time.sleep(POLL_S if is_running else 0.0)


def _take(progress: Progress, status: StatusFile, on_epoch: OnEpoch | None) -> None:
    for row in progress.take(status.read_new()):
        if on_epoch:
            on_epoch(row)


def _check(bench: Bench, step: Step, task: Task, progress: Progress, log: Path) -> None:
    lines = list(task.lines)
    missing = _missing(bench, step)
    says_failure = any(FAILED_LINE in line for line in lines)
    is_unfinished = progress.status == FAILURE or progress.was_interrupted
    is_unfinished |= step.needs_status and not progress.is_success
    if not (missing or says_failure or is_unfinished or task.exit_status):
        return
    message = progress.message if progress.status == FAILURE else ""
    if progress.was_interrupted:
        message = message or INTERRUPTED_MESSAGE
    reason = explain(lines, message=message)
    if progress.status in ("STARTED", "RUNNING"):
        last = max(progress.rows, default=0)
        reason = f"the container ended in the middle, in epoch {last}: {reason}"
    elif missing and not (is_unfinished or says_failure or task.exit_status):
        reason = f"{missing[0]} was not written: {reason}"
    again = "run again, it resumes" if step.resumes else "run again"
    raise TaoError(f"tao {step.name} failed: {reason} (all of it: {log}; then {again})")


def _missing(bench: Bench, step: Step) -> list[str]:
    """Return the outputs that are not there, or empty."""
    return [
        pattern
        for pattern in step.outputs
        if not any(path.stat().st_size for path in bench.work.glob(pattern))
    ]


def _clear(bench: Bench, step: Step) -> None:
    """Remove what would stop the step (export refuses an existing output) or pass for its own."""
    for pattern in step.outputs:
        for path in bench.work.glob(pattern):
            path.unlink()
    if not step.resumes:
        remove(step.results)
    step.results.mkdir(parents=True, exist_ok=True)
