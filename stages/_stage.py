"""The frame of a DVC stage: arguments, configuration, atomic outputs, tracking, exit status.

A stage file is `def run(stage: Stage) -> Summary` plus `sys.exit(main("name", run))`. DVC runs it
without arguments. By hand, `python -m stages.<name> train.epochs=1 --out DIR` changes values of
resolved.yaml and writes below DIR, so that DVC's outputs stay as they are.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deploy.core.errors import UserError
from stages._config import RESOLVED, GroupChangeError, load_resolved, read_yaml, section_of
from stages._files import atomic, hash_paths, remove, rounded, write_json
from stages._schema import TrackingConfig
from stages._tracking import Tracker, open_tracker

LOGGER = logging.getLogger(__name__)
WORK = Path(".work")
RUNS = Path("results/runs")
CODE = (Path("stages"), Path("deploy"))
# Modules that come in a package of another name; every other package is named as its module.
PACKAGES = {"modelopt": "nvidia-modelopt", "torch_pruning": "torch-pruning"}

Section = TypeVar("Section")


class MissingPackageError(UserError):
    """A package that this stage needs is not installed."""


@dataclass(frozen=True)
class Summary:
    """What the last line of a stage says: counts by name, and the path of the main output."""

    counts: Mapping[str, float | str]
    path: Path


class Stage:
    """One run of a stage: its configuration, its places on disk and its tracker."""

    def __init__(self, name: str, resolved: Mapping[str, Any], args: argparse.Namespace) -> None:
        self.name = name
        self.args = args
        self.tracker = Tracker()
        self._resolved = resolved
        self._base = args.out or Path()
        self._work: Path | None = None

    @property
    def label(self) -> str:
        """The stage's name with its step, as DVC writes it: `evaluate@train`."""
        step = getattr(self.args, "step", None)
        return f"{self.name}@{step}" if step else self.name

    def section(self, cls: type[Section]) -> Section:
        """Return a validated section of resolved.yaml, found by its dataclass."""
        return section_of(self._resolved, cls)

    def parameters(self) -> dict[str, Any]:
        """Return all sections as plain values."""
        return dict(self._resolved)

    def dep(self, path: str | Path) -> Path:
        """Return the place of an input; UserError when it is not there."""
        place = Path(path)
        if not place.exists():
            raise UserError(
                f"{place} is not there; run the stages before {self.name}: dvc repro {self.label}"
            )
        return place

    def need(self, *modules: str) -> None:
        """Raise MissingPackageError, before long work, when modules are not installed."""
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            raise missing_packages(self.label, missing)

    def out(self, path: str | Path) -> Path:
        """Return the place of an output, below --out when the stage is run by hand."""
        return self._base / path

    @contextlib.contextmanager
    def writing(self, path: str | Path, *, is_file: bool = False) -> Iterator[Path]:
        """Yield a place to write an output; it is renamed into place when the block ends well."""
        with atomic(self.out(path), is_file=is_file) as aside:
            yield aside

    def write_metrics(self, metrics: Mapping[str, object], path: str | Path | None = None) -> Path:
        """Write results/<stage>.json (or `path`) with six decimals, and track its numbers."""
        place = self.out(path or f"results/{self.name}.json")
        values = rounded(metrics)
        write_json(place, values)
        self.tracker.log_metrics(
            {f"{self.name}/{key}": value for key, value in flatten(values).items()}
        )
        return place

    def work_dir(self) -> Path:
        """Return the folder of this run's checkpoints, which a kill leaves and success removes.

        Its name hashes the code, the parameters and the inputs that dvc.yaml declares, so that a
        run resumes only what it would itself have written.
        """
        if self._work is None:
            place = self._base / WORK / self.label.replace("@", "-")
            self._work = place / self._fingerprint()[:16]
            self._work.mkdir(parents=True, exist_ok=True)
        return self._work

    def clear_work(self) -> None:
        """Remove the checkpoints of this and of earlier versions of the stage."""
        if self._work is not None:
            remove(self._work.parent)

    def _fingerprint(self) -> str:
        entry = read_yaml(Path("dvc.yaml"))["stages"][self.name]
        declared = entry.get("do", entry)
        step = str(getattr(self.args, "step", ""))
        sections = [name for entry in declared.get("params", []) for name in _sections(entry)]
        named = [str(dep).replace("${item}", step) for dep in declared.get("deps", [])]
        deps = [Path(dep) for dep in named if Path(dep) not in CODE]
        values = "".join(f"{name}={self._resolved[name]!r}\n" for name in sorted(sections))
        code = hash_paths(file for folder in CODE for file in folder.rglob("*.py"))
        return hash_text(values, code, hash_paths(deps))


def main(
    name: str,
    run: Callable[[Stage], Summary],
    *,
    options: Callable[[argparse.ArgumentParser], None] | None = None,
    keep_run: bool = True,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a stage; return 0, 1 for what a person can mend (one line on stderr), or 2 for usage.

    keep_run: write the id of the stage's MLflow run to results/runs/, where `report` finds it.
    """
    args = _parse(name, run, options, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.perf_counter()
    try:
        stage = Stage(name, load_resolved(RESOLVED, args.overrides), args)
        with open_tracker(
            stage.section(TrackingConfig), stage.label, stage.parameters()
        ) as tracker:
            stage.tracker = tracker
            with _naming_missing_packages(stage.label):
                summary = run(stage)
            stage.clear_work()
        if keep_run:
            run_file = stage.out(RUNS / f"{stage.label.replace('@', '-')}.json")
            write_json(run_file, {"stage": stage.label, **tracker.ids()})
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, GroupChangeError) else 1
    sys.stderr.write(_last_line(stage.label, summary, time.perf_counter() - started))
    return 0


def missing_packages(label: str, modules: Sequence[str]) -> MissingPackageError:
    """Say what to install: a bare GPU node has the packages of requirements/train.txt alone."""
    packages = " ".join(PACKAGES.get(module, module) for module in modules)
    return MissingPackageError(
        f"{label} needs what is not installed: {packages}; "
        f"install it: python -m pip install -c constraints.txt {packages}"
    )


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a nested mapping under dotted names; text, lists and nulls are left
    out."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = float(value)
    return flat


def hash_text(*parts: str) -> str:
    """Return the SHA-256 of the parts, separated."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def _naming_missing_packages(label: str) -> Iterator[None]:
    """Turn the import of a package that is not installed into one line; other failing imports are
    bugs and keep their traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or importlib.util.find_spec(package) is not None:
            raise
        raise missing_packages(label, [package]) from error


def _parse(
    name: str,
    run: Callable[[Stage], Summary],
    options: Callable[[argparse.ArgumentParser], None] | None,
    argv: Sequence[str] | None,
) -> argparse.Namespace:
    module = sys.modules.get(run.__module__)
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=getattr(module, "__doc__", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="values of resolved.yaml to change",
    )
    parser.add_argument(
        "--out", type=Path, help="write below this folder instead of the outputs that DVC keeps"
    )
    if options:
        options(parser)
    args = parser.parse_args(argv)
    if args.overrides and args.out is None:
        parser.error(
            "a changed value needs --out DIR, so that DVC's outputs stay as dvc.lock knows them"
        )
    return args


def _sections(entry: object) -> list[str]:
    return list(entry[str(RESOLVED)]) if isinstance(entry, Mapping) else []


def _last_line(label: str, summary: Summary, seconds: float) -> str:
    counts = ", ".join(f"{_number(value)} {key}" for key, value in summary.counts.items())
    return f"{label}: {counts}, {seconds:.1f} s -> {summary.path}\n"


def _number(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
