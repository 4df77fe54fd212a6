"""Who is measured by benchmarks.peers and how: the runtime here, others in their own environment.

Every measurement is a process of its own. Others answer through benchmarks.peer_worker.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deploy.core.average_precision import evaluate_detections
from deploy.core.boxes import Detections, as_xyxy
from deploy.frames import Frame

ROOT = Path(__file__).resolve().parents[1]
YOLOS = {"yolo11n": "YOLO11n", "yolo26n": "YOLO26n"}
OURS = "this project"


class PeerError(Exception):
    """A contender that failed; the message is one line."""


class Contender(NamedTuple):
    """Who is measured: time() gives fps and more; detect() its figures on labelled frames."""

    name: str
    note: str
    time: Callable[[], dict[str, Any]]
    detect: Callable[[], dict[str, float]] | None


def our_contender(
    args: argparse.Namespace, frames: Sequence[Frame], clip: Path, work: Path
) -> Contender:
    """Our runtime as a user starts it, from the bundle's own folder if there is one."""
    folder = (args.bundle or ROOT).resolve()
    models = {"detector": folder / "models/detector"} if args.bundle else _own_models(args)
    stats = work / "stats.json"

    def time() -> dict[str, Any]:
        command = ["deploy.run", "--source", str(clip), "--sink", str(work / "events.jsonl")]
        command += ["--stats", str(stats)]
        for name in models if args.bundle is None else ():
            command += [f"--{name}", str(models[name])]
        run_module(Path(sys.executable), command, cwd=folder)
        return dict(json.loads(stats.read_text()))

    def detect() -> dict[str, float]:
        engine = json.loads(stats.read_text())["engines"]["detector"]
        command = ["deploy.evaluate", "--model", str(models["detector"]), "--speed-images", "0"]
        command += ["--images", str((args.kitti / "images").resolve())]
        command += ["--labels", str((args.kitti / "labels").resolve())]
        command += ["--runtime", engine["runtime"], "--precision", engine["precision"]]
        command += ["--class-name", "hand", "--json", str(work / "ours.json")]
        command += ["--limit", str(args.limit)] if args.limit else []
        run_module(Path(sys.executable), command, cwd=folder)
        return dict(json.loads((work / "ours.json").read_text()))

    note = "hands, gestures and events"
    return Contender(OURS, note, time, detect if frames else None)


def _own_models(args: argparse.Namespace) -> dict[str, Path]:
    return {"detector": args.detector.resolve(), "gesture": args.gesture.resolve()}


def peer_contenders(
    args: argparse.Namespace,
    frames: Sequence[Frame],
    clip: Path,
    work: Path,
    versions: Mapping[str, str],
) -> tuple[list[Contender], dict[str, str]]:
    """Return the peers that can run, and why the others cannot, by name."""
    images = {frame.stem: str(frame.image_path.resolve()) for frame in frames}
    weights = dict(pair.split("=", 1) for pair in args.weights)
    found, skipped = [], {}

    def detector(**task: Any) -> Callable[[], dict[str, float]]:
        return lambda: measure(ask(args.peers, images=images, **task), frames)

    for name, title in YOLOS.items():
        if "ultralytics" not in versions:
            skipped[title] = _absent("ultralytics")
            continue
        model = str(work / f"{name}.onnx")
        given = weights.get(name)
        try:
            path = None if given is None else str(Path(given).resolve())
            ask(args.peers, do="export_yolo", name=name, weights=path, out=model, cwd=work)
        except PeerError as error:
            skipped[title] = str(error)
            continue
        timed = _timer(args.peers, do="time_yolo", model=model, clip=str(clip))
        detect = detector(do="detect_yolo", model=model) if frames and given else None
        note = "ONNX predict, 384x640" + ("" if given else ", random weights")
        found.append(Contender(title, note, timed, detect))
    hands = args.mediapipe_hands
    if "mediapipe" in versions:
        timed = _timer(args.peers, do="time_mediapipe", clip=str(clip), hands=hands)
        detect = detector(do="detect_mediapipe", hands=hands) if frames else None
        found.append(Contender("MediaPipe Hands", f"up to {hands} hands", timed, detect))
    else:
        skipped["MediaPipe Hands"] = _absent("mediapipe")
    return found, skipped


def _timer(python: Path, **task: Any) -> Callable[[], dict[str, Any]]:
    return lambda: ask(python, **task)


def _absent(package: str) -> str:
    return f"{package} is not installed; run: bash benchmarks/peers.sh"


def measure(found: Mapping[str, Sequence[Sequence[float]]], frames: Sequence[Frame]) -> dict:
    """Figures of found boxes (rows of xyxy and confidence, by stem) on labelled frames."""
    predictions = {}
    for stem, rows in found.items():
        table = np.array(rows, np.float32).reshape(-1, 5)
        class_id = np.zeros(len(table), np.int64)
        predictions[stem] = Detections(as_xyxy(table[:, :4]), table[:, 4], class_id)
    truths = {frame.stem: frame.truth for frame in frames}
    metrics = evaluate_detections(predictions, truths, confidence_threshold=0.5)
    return {name: getattr(metrics, name) for name in ("ap50", "ap")}


def peer_versions(python: Path) -> dict[str, str]:
    """Versions of the packages in the peers' environment; none where it is not there."""
    return ask(python, do="versions") if python.exists() else {}


def ask(python: Path, *, cwd: Path = ROOT, **task: Any) -> Any:
    """Run a task of benchmarks.peer_worker and return its answer. Raises PeerError."""
    printed = run_module(python, ["benchmarks.peer_worker", json.dumps(task)], cwd=cwd)
    return json.loads(printed.splitlines()[-1])


def run_module(python: Path, command: Sequence[str], *, cwd: Path) -> str:
    """Run python -m COMMAND with as many threads as it likes; return what it prints.

    Raises PeerError with the last line of its errors.
    """
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if python != Path(sys.executable):
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [str(python), "-m", *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise PeerError(lines[-1])
    return done.stdout
