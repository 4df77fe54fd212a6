"""One small rendered set for all tests of the renderer: every split, drawn in memory once."""

from typing import NamedTuple

import cv2
import pytest

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.scene import Scene
from stages.datasets.render.video import Frame, render_frames


class Video(NamedTuple):
    split: str
    scene: Scene
    frames: tuple[Frame, ...]


SAMPLE = RenderConfig(seed=11, frames_per_video=4)
_COUNTS = {"train": 5, "val": 3, "test": 10}


@pytest.fixture(scope="session")
def sample_config() -> RenderConfig:
    return SAMPLE


@pytest.fixture(scope="session")
def sample_videos() -> list[Video]:
    """18 videos of 4 frames at full size; 10 of them test videos, for the detector bound."""
    cv2.setNumThreads(1)
    videos = []
    for split, count in _COUNTS.items():
        for index in range(count):
            scene, rng = open_scene(Job(SAMPLE, split, index, ""))
            videos.append(Video(split, scene, tuple(render_frames(scene, rng, SAMPLE))))
    return videos
