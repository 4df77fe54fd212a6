"""Compare the runtime with YOLO11n, YOLO26n and MediaPipe Hands: one clip, two cores, one run.

Run: bash benchmarks/peers.sh, once, for an environment with those packages, then
python -m benchmarks.peers --bundle DIR --kitti DIR [--json FILE] (10 minutes). DIR of --bundle is
an unpacked bundle; --detector and --gesture name model folders instead. --kitti has images/ and
labels/: every contender's average precision is of these frames, by the rule of deploy.evaluate,
and the clip is made of them at 1280x720; without it the clip is drawn and the precisions stay
blank. A package that is not installed is one line and no row.

Each round runs every contender once, in a process of its own, and begins with another one; speed
is the median of the rounds. Ours is deploy.run with hands, gestures and events; the others find
hands only. YOLO's weights are random without --weights yolo11n=FILE (.pt or .onnx): their speed
counts, their precision stays blank. Prints a Markdown table.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from benchmarks.peer_contenders import (
    OURS,
    ROOT,
    YOLOS,
    Contender,
    PeerError,
    our_contender,
    peer_contenders,
    peer_versions,
)
from benchmarks.runtime import FPS, draw_clip
from deploy.core.errors import UserError
from deploy.frames import Frame, find_frames, read_image

PEERS_PYTHON = ROOT / ".work/peers/bin/python"
CLIP_WH = (1280, 720)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    args = parse_arguments(argv)
    try:
        frames = labelled_frames(args)
        with tempfile.TemporaryDirectory() as name:
            document = compare(args, frames, Path(name))
    except (UserError, PeerError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    sys.stdout.write(format_table(document))
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="an unpacked bundle")
    parser.add_argument("--detector", type=Path, default=ROOT / "models/export", metavar="DIR")
    parser.add_argument("--gesture", type=Path, default=ROOT / "models/gesture", metavar="DIR")
    parser.add_argument("--kitti", type=Path, metavar="DIR", help="images/ and labels/")
    parser.add_argument("--limit", type=int, metavar="N", help="only N of them, evenly spaced")
    parser.add_argument("--clip", type=Path, metavar="FILE", help="instead of one that is made")
    parser.add_argument("--frames", type=int, default=300, help="of a clip that is made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2, help="that every process may use")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--mediapipe-hands", type=int, default=2, metavar="N")
    parser.add_argument("--peers", type=Path, default=PEERS_PYTHON, metavar="PYTHON")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    args = parser.parse_args(argv)
    for pair in args.weights:
        if pair.partition("=")[0] not in YOLOS or not Path(pair.partition("=")[2]).is_file():
            parser.error(f"--weights {pair}: expected a file, as {' or '.join(YOLOS)}=FILE")
    return args


def labelled_frames(args: argparse.Namespace) -> list[Frame]:
    """List the frames whose hands are known, none without --kitti. Raises DeployError."""
    if args.kitti is None:
        return []
    folders = args.kitti / "images", args.kitti / "labels"
    return find_frames(*folders, class_name="hand", limit=args.limit)


def compare(args: argparse.Namespace, frames: Sequence[Frame], work: Path) -> dict[str, Any]:
    """Measure every contender that is there. Raises PeerError when the runtime itself fails."""
    load_before = os.getloadavg()[0]  # before anything of this is in it
    clip = (args.clip or make_clip(work / "clip.mp4", frames, num_frames=args.frames)).resolve()
    versions = peer_versions(args.peers)
    ours = our_contender(args, frames, clip, work)
    contenders, skipped = peer_contenders(args, frames, clip, work, versions)
    with on_cores(args.cores) as cores:
        runs, failed = time_rounds([ours, *contenders], args.rounds)
        load_after = os.getloadavg()[0]
    if ours.name in failed:
        raise PeerError(f"{ours.name}: {failed[ours.name]}")
    measured = [one for one in [ours, *contenders] if one.name not in failed]
    figures, unknown = detect_all(measured)
    rows = [summarise(one, runs[one.name], figures[one.name]) for one in measured]
    return {
        "clip": str(args.clip or ("labelled frames" if frames else "drawn")),
        "labelled_frames": len(frames),
        "rounds": args.rounds,
        "cores": cores,
        "load_average": [load_before, load_after],
        "versions": versions,
        "contenders": rows,
        "skipped": {**skipped, **failed, **unknown},
    }


@contextlib.contextmanager
def on_cores(num_cores: int) -> Iterator[int]:
    """Keep what the block starts on so many cores; the block gets how many there are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:num_cores])
    try:
        yield len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


def make_clip(path: Path, frames: Sequence[Frame], *, num_frames: int) -> Path:
    """Write an mp4 of the labelled frames, over and over, or a drawn one without them."""
    if not frames:
        draw_clip(path, num_frames=num_frames)
        return path
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, CLIP_WH)
    for number in range(num_frames):
        writer.write(cv2.resize(read_image(frames[number % len(frames)].image_path), CLIP_WH))
    writer.release()
    return path


def time_rounds(
    contenders: Sequence[Contender], rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Run all contenders in each round, each round from another one on.

    Returns the results by name, and why those failed that did; they are left out from then on.
    """
    runs: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contenders}
    failed: dict[str, str] = {}
    for number in range(rounds):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            if contender.name in failed:
                continue
            try:
                runs[contender.name].append(contender.time())
            except PeerError as error:
                failed[contender.name] = str(error)
                continue
            fps = runs[contender.name][-1]["fps"]
            sys.stderr.write(f"round {number + 1}: {contender.name} {fps:.1f} frames/s\n")
    return runs, failed


def detect_all(
    contenders: Sequence[Contender],
) -> tuple[dict[str, Mapping[str, float]], dict[str, str]]:
    """Return figures by name, none where nothing is to be measured, and why some failed."""
    figures: dict[str, Mapping[str, float]] = {one.name: {} for one in contenders}
    unknown: dict[str, str] = {}
    for contender in contenders:
        try:
            figures[contender.name] = contender.detect() if contender.detect else {}
        except PeerError as error:
            unknown[f"precision of {contender.name}"] = str(error)
    return figures, unknown


def summarise(
    contender: Contender, runs: Sequence[Mapping[str, Any]], figures: Mapping[str, float]
) -> dict[str, Any]:
    """One row: median and range of frames per second, precisions where they are known."""
    rates = [run["fps"] for run in runs]
    row = {
        "name": contender.name,
        "note": contender.note,
        "fps_median": statistics.median(rates),
        "fps_range": [min(rates), max(rates)],
        "frames": runs[0]["frames"],
        "ap50": figures.get("ap50"),
        "ap": figures.get("ap"),
    }
    if "latency" in runs[0]:
        row["p50_ms"] = {
            step: statistics.median(run["latency"][step]["p50_ms"] for run in runs)
            for step in runs[0]["latency"]
        }
        row["engines"] = runs[0]["engines"]
    return row


def format_table(document: Mapping[str, Any]) -> str:
    """Markdown: a row per contender, then how much faster ours is, then who was skipped."""
    lines = ["| | frames/s, median | range | AP50 | AP |", "|---|---:|---|---:|---:|"]
    for row in document["contenders"]:
        low, high = row["fps_range"]
        values = [f"{row['name']} ({row['note']})", f"{row['fps_median']:.1f}"]
        values += [f"{low:.1f} to {high:.1f}"]
        values += ["" if row[key] is None else f"{row[key]:.3f}" for key in ("ap50", "ap")]
        lines.append("| " + " | ".join(values) + " |")
    best = max((row["fps_median"] for row in document["contenders"][1:]), default=None)
    if best:
        ratio = document["contenders"][0]["fps_median"] / best
        lines += ["", f"{OURS}: {ratio:.2f} times the frames per second of the best other one."]
    before, after = document["load_average"]
    lines += ["", f"Load on {document['cores']} cores: {before:.1f} before, {after:.1f} after."]
    if before > document["cores"] / 4:
        lines.append("Something else was running before: times on a machine at rest count.")
    lines += ["", *(f"skipped: {name}: {why}" for name, why in document["skipped"].items())]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
