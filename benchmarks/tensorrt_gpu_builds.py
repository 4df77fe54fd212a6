"""The engines of benchmarks/tensorrt_gpu.py: each in a copy of its model folder, several at once.

A copy holds links to the model's files and one engine, so that INT8 of the calibration cache and
of the Q/DQ file lie side by side, and builds in processes of their own never meet. An engine that
is there already is not built again.
"""

from __future__ import annotations

import collections
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.build import build_model
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.tensorrt_make import BuildOptions
from deploy.tensorrt_record import find_engine

POLL_S = 0.2


class Variant(NamedTuple):
    """One way to build: quantization says where INT8 comes from, role which file's answers the
    engine's are compared with."""

    name: str
    precision: str
    quantization: str
    role: str


VARIANTS = (
    Variant("fp16", "fp16", "auto", "fp32"),
    Variant("int8_qdq", "int8", "qdq", "qdq"),
    Variant("int8_cache", "int8", "cache", "qdq"),
    Variant("fp32", "fp32", "auto", "fp32"),
)


class Job(NamedTuple):
    """A model folder and how it is built."""

    model: Path
    variant: Variant


def built_folder(job: Job) -> Path:
    """Return the copy of the model folder that gets the engine: DIR/built/VARIANT/MODEL."""
    root = job.model.parent.parent
    return root / "built" / job.variant.name / job.model.name


def find_lack(job: Job) -> str:
    """Return which file the model lacks for this variant, or nothing."""
    files = read_model_json(job.model).files
    wanted = [job.variant.role] + (["calibration"] if job.variant.quantization == "cache" else [])
    if all(role in files for role in wanted):
        return ""
    return f"the folder has no file for it: {sorted(files)}"


def build_engines(jobs: Sequence[Job], *, processes: int, deadline_s: float) -> dict[Job, str]:
    """Build what is not built yet; return what went wrong, by job.

    processes: 1 for this one, more for so many at a time, which measure kernels beside each other:
    quicker, and the engines may be a little slower. deadline_s: time.perf_counter() after which
    none begins, and those of other processes are ended.
    """
    waiting = [job for job in jobs if find_engine(_copy_folder(job), "auto") is None]
    if processes == 1:
        return _build_here(waiting, deadline_s)
    commands = {job: build_command(job) for job in waiting}
    return run_processes(commands, processes=processes, deadline_s=deadline_s)


def build_command(job: Job) -> list[str]:
    """Return the command line of one build."""
    words = ["--precision", job.variant.precision, "--quantization", job.variant.quantization]
    words += ["--strict", "--unchecked", "--model", str(built_folder(job))]
    return [sys.executable, "-m", "deploy.build", *words]


def run_processes(
    commands: dict[Job, list[str]], *, processes: int, deadline_s: float
) -> dict[Job, str]:
    """Run commands, so many at a time; return the last line of those that fail or are ended."""
    errors: dict[Job, str] = {}
    waiting = collections.deque(commands.items())
    running: dict[Job, subprocess.Popen[str]] = {}
    while waiting or running:
        is_over = time.perf_counter() > deadline_s
        while waiting and (is_over or len(running) < processes):
            job, command = waiting.popleft()
            if is_over:
                errors[job] = _over()
            else:
                with _log(job).open("w") as log:
                    running[job] = subprocess.Popen(
                        command, stdout=subprocess.DEVNULL, stderr=log, text=True
                    )
        for job, process in list(running.items()):
            if is_over and process.poll() is None:
                process.kill()
                process.wait()
                errors[job] = _over()
            if process.poll() is not None:
                del running[job]
                if process.returncode != 0:
                    errors.setdefault(job, _last_line(_log(job)))
        time.sleep(POLL_S if running else 0)
    return errors


def _build_here(jobs: Sequence[Job], deadline_s: float) -> dict[Job, str]:
    errors = {}
    for job in jobs:
        if time.perf_counter() > deadline_s:
            errors[job] = _over()
            continue
        options = BuildOptions(
            precision=job.variant.precision,
            quantization=job.variant.quantization,
            strict=True,
            unchecked=True,
        )
        try:
            build_model(built_folder(job), options)
        except DeployError as error:
            errors[job] = str(error)
    return errors


def _copy_folder(job: Job) -> Path:
    """Make the copy, of links to the files, unless it is there."""
    folder = built_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    for path in job.model.iterdir():
        target = folder / path.name
        if path.is_file() and path.name == "model.json":
            shutil.copy(path, target)  # deploy.build may write into it
        elif path.is_file() and not target.exists():
            target.symlink_to(path.resolve())
    return folder


def _log(job: Job) -> Path:
    return built_folder(job) / "build.log"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _over() -> str:
    return "left out, the time is over; raise --budget-s or run it again"
