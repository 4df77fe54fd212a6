"""Hands that are drawn for the classifier alone (gesture.drawn), as many as one likes.

The frames stay in memory and only the crops are kept. Every video is drawn from a seed of its own,
so the number of workers does not matter. Hands of people at work show no gesture: they are
`random`, and the many ways of holding a card or a cup are what a robot must not obey.
"""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from deploy.core.roi import RoiRule, crop_regions, expand_boxes
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job as Video
from stages.datasets.render.dataset import drawn_frames, list_jobs, open_scene
from stages.datasets.render.video import Frame, render_frames
from stages.gesturenet.config import GESTURES, DrawnConfig
from stages.gesturenet.crops import (
    NO_GESTURE,
    Crops,
    boxes_in_regions,
    concatenate_crops,
    empty_crops,
    points_in_regions,
)


class _Job(NamedTuple):
    video: Video
    is_work: bool
    rule: RoiRule
    size_px: int


def draw_crops(config: DrawnConfig, *, rule: RoiRule, size_px: int, workers: int) -> Crops:
    """Draw config.videos videos and cut every hand by a rule into crops of size_px pixels.

    Ordered by video, frame and hand; names are "drawn_<video>_<frame>#<hand>". workers 0 or 1 stay
    in this process. config.videos is at least 1.
    """
    num_work = round(config.table_work_frac * config.videos)
    jobs = [
        _Job(video, is_work, rule, size_px)
        for is_work in (True, False)
        for video in list_jobs(_render_config(config, is_work=is_work), Path())
        if (video.number < num_work) == is_work
    ]
    if workers <= 1:
        return _collect(map(_draw_video, jobs), len(jobs))
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        return _collect(pool.imap(_draw_video, jobs), len(jobs))


def _render_config(config: DrawnConfig, *, is_work: bool) -> RenderConfig:
    return RenderConfig(
        seed=config.seed,
        train_videos=config.videos,
        val_videos=0,
        test_videos=0,
        pose_variety=config.pose_variety,
        min_hand_height=config.min_hand_height,
        max_hand_height=config.max_hand_height,
        table_work_frac=1.0 if is_work else 0.0,
        cover_frac=config.cover_frac,
    )


def _collect(parts: Iterator[Crops], num_videos: int) -> Crops:
    bar = tqdm(parts, total=num_videos, desc="drawing hands", unit="video", disable=None)
    return concatenate_crops(list(bar))


def _draw_video(job: _Job) -> Crops:
    cv2.setNumThreads(1)
    scene, rng = open_scene(job.video)
    indices = drawn_frames(job.video.config, job.video.split)
    frames = render_frames(scene, rng, job.video.config, indices)
    return concatenate_crops(
        [
            empty_crops(job.size_px),
            *(_cut(frame, f"drawn_{job.video.number}_{n}", job) for n, frame in enumerate(frames)),
        ]
    )


def _cut(frame: Frame, name: str, job: _Job) -> Crops:
    # Between two gestures a hand shows neither, and none is labelled.
    hands = [hand for hand in frame.hands if job.is_work or hand.gesture is not None]
    if not hands:
        return empty_crops(job.size_px)
    outlines = [np.asarray(hand.outline, np.float32) for hand in hands]
    boxes = np.stack([np.concatenate([one.min(axis=0), one.max(axis=0) + 1]) for one in outlines])
    joints = np.stack([hand.joints for hand in hands])  # (N, 21, 2)
    height, width = frame.image.shape[:2]
    regions = expand_boxes(boxes, job.rule, image_wh=(width, height))
    gestures = [hand.gesture or NO_GESTURE for hand in hands]
    return Crops(
        crop_regions(frame.image, regions, size_wh=(job.size_px, job.size_px)),
        boxes_in_regions(boxes, regions, size_px=job.size_px),
        np.array([GESTURES.index(gesture) for gesture in gestures], np.int64),
        tuple(f"{name}#{index}" for index in range(len(hands))),
        points_in_regions(joints, regions, size_px=job.size_px),
    )
