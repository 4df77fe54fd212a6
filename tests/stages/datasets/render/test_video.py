"""Frames over time: smooth hands, complete labels, and hands that cannot be labelled are gone."""

import numpy as np

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.layer import Layer
from stages.datasets.render.script import FIELDS
from stages.datasets.render.video import MIN_VISIBLE, render_frames

CONFIG = RenderConfig(seed=3, image_wh=[480, 270], frames_per_video=12)


def wall(width: int, height: int) -> Layer:
    """An object that hides the whole frame."""
    shape = (height, width)
    return Layer((0, 0), np.full((*shape, 3), 90, np.float32), np.ones(shape, np.float32))


def test_anchor_is_shown_when_everything_is_hidden() -> None:
    scene, rng = open_scene(Job(CONFIG, "val", 0, ""))
    hidden = scene._replace(covers=(wall(480 + 200, 270 + 200)._replace(origin=(-100, -100)),))
    for frame in render_frames(hidden, rng, CONFIG):
        assert [hand.field for hand in frame.hands] == [scene.scripts[-1].field]
        assert frame.hands[0].visible >= MIN_VISIBLE


def test_hands_move_smoothly_and_hold_their_gestures() -> None:
    steps, changes, pairs = [], 0, 0
    for number in range(4):
        scene, rng = open_scene(Job(CONFIG, "train", number, ""))
        frames = list(render_frames(scene._replace(covers=()), rng, CONFIG))
        for field in FIELDS:
            for before, after in zip(frames, frames[1:], strict=False):
                pair = [
                    hand
                    for frame in (before, after)
                    for hand in frame.hands
                    if hand.field == field
                ]
                if len(pair) < 2:
                    continue
                pairs += 1
                middles = [
                    (hand.outline.min(axis=0) + hand.outline.max(axis=0)) / 2 for hand in pair
                ]
                steps.append(float(np.linalg.norm(middles[1] - middles[0])) / 270)
                changes += pair[0].gesture != pair[1].gesture
    assert np.median(steps) < 0.04
    assert np.percentile(steps, 95) < 0.2
    assert changes < 0.45 * pairs


def test_frames_of_a_video_differ_by_more_than_noise() -> None:
    scene, rng = open_scene(Job(CONFIG, "test", 0, ""))
    frames = [frame.image.astype(np.int16) for frame in render_frames(scene, rng, CONFIG)]
    assert np.abs(frames[0] - frames[-1]).mean() > 3
