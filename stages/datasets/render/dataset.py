"""Write a drawn data set in the EgoHands layout.

`_LABELLED_SAMPLES/<VIDEO>/frame_NNNN.jpg`, polygons.mat (1xN struct of four polygons per frame)
and gestures.json. Each video is drawn on its own from a seed of its own, so the number of workers
does not matter; polygons.mat carries a fixed header where scipy writes the date. One config = the
same bytes.
"""

import dataclasses
import io
import json
import multiprocessing
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from stages.datasets.render.appearance import SPLITS
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.scene import Scene, build_scene
from stages.datasets.render.script import FIELDS
from stages.datasets.render.video import Frame, render_frames

_HEADER = b"MATLAB 5.0 MAT-file, drawn hands in the layout of EgoHands"


class RenderReport(NamedTuple):
    videos: int
    frames: int
    hands: int


class Job(NamedTuple):
    """One video to draw."""

    config: RenderConfig
    split: str
    number: int
    folder: str


def render_dataset(config: RenderConfig, folder: Path, *, workers: int) -> RenderReport:
    """Draw all videos of a config below folder/_LABELLED_SAMPLES; workers 0 or 1 stay in this
    process.

    Raises FileExistsError when a video's folder is already there.
    """
    root = Path(folder) / "_LABELLED_SAMPLES"
    root.mkdir(parents=True, exist_ok=True)
    jobs = list_jobs(config, root)
    if workers <= 1:
        hands = _count_with_progress(map(render_video, jobs), len(jobs))
    else:
        with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs) or 1)) as pool:
            hands = _count_with_progress(pool.imap_unordered(render_video, jobs), len(jobs))
    frames = sum(len(drawn_frames(job.config, job.split)) for job in jobs)
    return RenderReport(len(jobs), frames, hands)


def _count_with_progress(hands: Iterable[int], num_videos: int) -> int:
    return sum(tqdm(hands, total=num_videos, desc="drawing", unit="video", disable=None))


def list_jobs(config: RenderConfig, root: Path) -> list[Job]:
    counts = (config.train_videos, config.val_videos, config.test_videos)
    return [
        Job(_scripted(config, split), split, number, str(root))
        for split, count in zip(SPLITS, counts, strict=True)
        for number in range(count)
    ]


def _scripted(config: RenderConfig, split: str) -> RenderConfig:
    """The config of one video: its script is as long as its last drawn frame needs."""
    return dataclasses.replace(config, frames_per_video=drawn_frames(config, split)[-1] + 1)


def open_scene(job: Job) -> tuple[Scene, np.random.Generator]:
    """Build a job's scene and the generator that its frames go on with."""
    key = (SPLITS.index(job.split), job.number)
    rng = np.random.default_rng(np.random.SeedSequence(job.config.seed, spawn_key=key))
    return build_scene(rng, job.split, job.config), rng


def drawn_frames(config: RenderConfig, split: str) -> range:
    """Which frames of a video's script are drawn: all in turn, or far apart ones for training."""
    if split == "train":
        return range(0, config.train_frames * config.train_step, config.train_step)
    return range(config.frames_per_video)


def render_video(job: Job) -> int:
    """Draw one video and write its folder; returns the number of labelled hands."""
    cv2.setNumThreads(1)
    scene, rng = open_scene(job)
    folder = Path(job.folder) / video_name(job, scene)
    folder.mkdir()
    hands = []
    quality = [cv2.IMWRITE_JPEG_QUALITY, scene.camera.quality]
    indices = drawn_frames(job.config, job.split)
    for index, frame in enumerate(render_frames(scene, rng, job.config, indices)):
        path = folder / f"frame_{index:04d}.jpg"
        if not cv2.imwrite(str(path), frame.image, quality):
            raise OSError(f"could not write {path}")
        hands.append(frame._replace(image=frame.image[:0]))
    (folder / "polygons.mat").write_bytes(polygons_mat(hands))
    (folder / "gestures.json").write_text(gestures_json(hands), encoding="utf-8")
    return sum(len(frame.hands) for frame in hands)


def video_name(job: Job, scene: Scene) -> str:
    """Four parts like EgoHands' ACTIVITY_LOCATION_VIEWER_PARTNER, unique within the data set."""
    return f"{job.split.upper()}_{scene.place}_V{job.number:02d}_P{job.number:02d}"


def polygons_mat(frames: list[Frame]) -> bytes:
    """Serialise outlines as EgoHands' `polygons`: 1xN struct, (0, 0) for a hand that is absent."""
    polygons = np.empty((1, len(frames)), dtype=[(field, object) for field in FIELDS])
    for index, frame in enumerate(frames):
        outlines = {hand.field: hand.outline for hand in frame.hands}
        polygons[0, index] = tuple(outlines.get(field, np.zeros((0, 0))) for field in FIELDS)
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"polygons": polygons})
    return _HEADER.ljust(116) + buffer.getvalue()[116:]


def gestures_json(frames: list[Frame]) -> str:
    rows = [{hand.field: hand.gesture for hand in frame.hands} for frame in frames]
    return json.dumps({"schema": 1, "frames": rows}, indent=1, sort_keys=True) + "\n"
