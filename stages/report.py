"""Stage `report`: the bundle run on a test video, a Markdown report, and the complete parent run
in MLflow.

Run: python -m stages.report (about 15 s). A parent run thus holds all parameters, metrics and
figures, also of stages that DVC restored from its cache, so that MLflow compares whole pipelines.
"""

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.core.errors import UserError
from stages._report import render_report
from stages._stage import RUNS, Stage, Summary, flatten, main

RESULTS = Path("results")
BUNDLE = Path("dist/hand-gestures.tar.gz")
FIGURES = (
    "prune/sensitivity.png",
    "evaluate/export_pr.png",
    "evaluate/export_samples.jpg",
    "gesture/confusion.png",
    "gesture/samples.jpg",
)
DEMO_TIMEOUT_S = 300
DEMO_FPS = "10"  # drawn frames follow each other at this rate


def run(stage: Stage) -> Summary:
    """Run the bundle, write results/report.md and complete the parent run."""
    results = read_results(RESULTS)
    with stage.writing("results/report") as folder:
        events = run_bundle(
            stage.dep(BUNDLE),
            test_video(stage),
            folder,
            gestures=not results.get("gesture", {}).get("encrypted", False),
        )
    pictures = {
        Path(name).stem.replace("_", " "): name for name in FIGURES if (RESULTS / name).is_file()
    }
    with stage.writing("results/report.md", is_file=True) as aside:
        aside.write_text(render_report(results, events=events, pictures=pictures))
    complete_parent(stage, results)
    return Summary(
        {"metrics": len(flatten(results)), "events": len(events)}, stage.out("results/report.md")
    )


def read_results(folder: Path) -> dict[str, Any]:
    """Read every metrics file: results/train.json -> `train`, results/evaluate/train.json ->
    `evaluate/train`."""
    files = sorted(folder.glob("*.json")) + sorted(folder.glob("evaluate/*[!r].json"))
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text())
        for path in files
    }
    return {name: content for name, content in found.items() if isinstance(content, dict)}


def test_video(stage: Stage) -> Path:
    """Return the frames of the first test video as a folder (any split's where test is empty)."""
    stems = stage.dep("data/split/test.txt").read_text().split()
    raw = stage.dep("data/raw")
    videos = [raw.glob(f"{place}_LABELLED_SAMPLES/*") for place in ("", "drawn/")]
    for folder in (video for group in videos for video in sorted(group)):
        if any(stem.startswith(f"{folder.name}_frame_") for stem in stems):
            return folder
    return raw / "images"


def run_bundle(
    bundle: Path, frames: Path, folder: Path, *, gestures: bool
) -> list[dict[str, Any]]:
    """Unpack the bundle elsewhere, run it on the frames, keep video and events; return the events.

    gestures: False where the gesture model has no file that runs here; there are no events then.
    Raises UserError with the runtime's own last line when it fails.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        with tarfile.open(bundle) as archive:
            archive.extractall(elsewhere, filter="data")
        root = next(Path(elsewhere).iterdir())
        command = [sys.executable, "-m", "deploy.run", "--source", str(frames.resolve())]
        command += ["--fps", DEMO_FPS, *([] if gestures else ["--no-gesture"])]
        command += [
            "--sink",
            str((folder / "demo.mp4").resolve()),
            "--sink",
            str((folder / "events.jsonl").resolve()),
        ]
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=DEMO_TIMEOUT_S, check=False
        )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"the bundle failed on {frames}: {last}; try: python -m deploy.run --source {frames}"
        )
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def complete_parent(stage: Stage, results: Mapping[str, Any]) -> None:
    """Give the parent run all parameters, metrics, figures, and the ids of the stages' runs."""
    runs = [json.loads(path.read_text()) for path in sorted(RUNS.glob("*.json"))]
    files = [RESULTS / name for name in FIGURES if (RESULTS / name).is_file()]
    stage.tracker.complete_parent(
        params=stage.parameters(),
        metrics={name.replace(".", "/"): value for name, value in flatten(results).items()},
        files=[
            *files,
            stage.out("results/report.md"),
            *sorted(stage.out("results/report").iterdir()),
        ],
        runs={str(run["stage"]): run for run in runs},
    )


if __name__ == "__main__":
    sys.exit(main("report", run, keep_run=False))
