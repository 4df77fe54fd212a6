"""Stage `report`: the bundle run on a test video, how right the events of all test videos are, a
Markdown report, and the complete parent run in MLflow.

Run: python -m stages.report (about 20 s). results/events.json has precision, recall and delay of
the gesture events, of the unpacked bundle's models, at 10 frames a second. A parent run thus holds
all parameters, metrics and figures, also of stages that DVC restored from its cache, so that
MLflow compares whole pipelines.
"""

import contextlib
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deploy.core.errors import UserError
from deploy.core.events import to_document
from deploy.core.kitti import label_boxes, read_labels
from deploy.engine import open_engine
from deploy.frames import read_image
from deploy.pipeline import Pipeline
from deploy.source import Frame
from stages._event_accuracy import (
    LabelledHand,
    find_shown,
    read_begins,
    summarize_tallies,
    tally_video,
)
from stages._report import render_report
from stages._stage import RUNS, Stage, Summary, flatten, main
from stages.datasets.index import find_image, read_gestures, read_index

RESULTS = Path("results")
BUNDLE = Path("dist/hand-gestures.tar.gz")
EVENTS = RESULTS / "events.json"
FIGURES = (
    "prune/sensitivity.png",
    "evaluate/export_pr.png",
    "evaluate/export_samples.jpg",
    "gesture/confusion.png",
    "gesture/reliability.png",
    "gesture/samples.jpg",
)
DEMO_TIMEOUT_S = 300
DEMO_FPS = 10.0  # drawn frames follow each other at this rate


def run(stage: Stage) -> Summary:
    """Run the bundle, write results/report.md and complete the parent run."""
    results = read_results(RESULTS)
    has_gestures = not results.get("gesture", {}).get("encrypted", False)
    with unpacked(stage.dep(BUNDLE)) as root:
        with stage.writing("results/report") as folder:
            events = run_bundle(root, test_video(stage), folder, gestures=has_gestures)
        videos = read_labelled_videos(stage) if has_gestures else {}
        accuracy = measure_events(root / "models", videos)
    stage.write_metrics(accuracy, EVENTS)
    results["events"] = accuracy
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


@contextlib.contextmanager
def unpacked(bundle: Path) -> Iterator[Path]:
    """Unpack the bundle elsewhere while the block runs; gives its one folder."""
    with tempfile.TemporaryDirectory() as elsewhere:
        with tarfile.open(bundle) as archive:
            archive.extractall(elsewhere, filter="data")
        yield next(Path(elsewhere).iterdir())


def run_bundle(root: Path, frames: Path, folder: Path, *, gestures: bool) -> list[dict[str, Any]]:
    """Run an unpacked bundle on the frames, keep video and events in folder; return the events.

    gestures: False where the gesture model has no file that runs here; there are no events then.
    Raises UserError with the runtime's own last line when it fails.
    """
    command = [sys.executable, "-m", "deploy.run", "--source", str(frames.resolve())]
    command += ["--fps", f"{DEMO_FPS:g}", *([] if gestures else ["--no-gesture"])]
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


class LabelledFrame(NamedTuple):
    """A frame of a test video and the hands in it, whose gesture is None where it is unclear."""

    path: Path
    hands: list[LabelledHand]


def read_labelled_videos(stage: Stage) -> dict[str, list[LabelledFrame]]:
    """Read the frames of those test videos in which a gesture is labelled, in order, by video."""
    kitti = stage.dep("data/kitti")
    wanted = set(stage.dep("data/split/test.txt").read_text().split())
    gestures = {(row.stem, row.row): row.gesture for row in read_gestures(kitti / "gestures.csv")}
    stems = {stem for stem, _ in gestures}
    rows = [row for row in read_index(kitti / "index.csv") if row.stem in wanted]
    labelled = {row.video for row in rows if row.stem in stems}
    videos: dict[str, list[LabelledFrame]] = {}
    for row in sorted(rows, key=lambda each: (each.video, each.frame)):
        if row.video in labelled:
            boxes = label_boxes(read_labels(kitti / "labels" / f"{row.stem}.txt"))
            hands = [
                LabelledHand(gestures.get((row.stem, number)), box)
                for number, box in enumerate(boxes)
            ]
            frame = LabelledFrame(find_image(kitti, row.stem), hands)
            videos.setdefault(row.video, []).append(frame)
    return videos


def measure_events(models: Path, videos: Mapping[str, Sequence[LabelledFrame]]) -> dict[str, Any]:
    """Run the runtime over labelled videos, in this process, and compare its events with them."""
    if not videos:
        return summarize_tallies([])
    with (
        open_engine(models / "detector") as detector,
        open_engine(models / "gesture") as classifier,
    ):
        tallies = [
            tally_video(
                find_shown([frame.hands for frame in frames]),
                read_begins(run_video(Pipeline(detector, classifier), frames)),
                fps=DEMO_FPS,
            )
            for frames in videos.values()
        ]
    return summarize_tallies(tallies)


def run_video(pipeline: Pipeline, frames: Sequence[LabelledFrame]) -> list[dict[str, Any]]:
    """Return the event documents of one video."""
    events = []
    for number, frame in enumerate(frames):
        time_s, now = number / DEMO_FPS, time.perf_counter()
        events += pipeline.process(Frame(read_image(frame.path), number, time_s, now)).events
    return [to_document(event) for event in [*events, *pipeline.finish()]]


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
