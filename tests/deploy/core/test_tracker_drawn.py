"""Drawn hands that cross keep their numbers, where overlap alone swaps them."""

import numpy as np
import pytest

from deploy.core.boxes import box_iou
from deploy.core.tracker import Tracker
from tests.deploy.core.crossings import OverlapTracker, count_switches

pytest.importorskip("scipy", reason="drawing needs the training environment")

WH = (320, 180)
NUM_FRAMES = 36
# Heights of the path from left to right and of the one back, as fractions of the frame's.
PATHS = [(0.5, 0.5), (0.45, 0.6), (0.62, 0.5)]


def draw_crossing(seed, heights):
    """Frames of a drawn video in which two hands pass each other, as count_switches takes them.

    What the front hand hides of the other, and whether enough of it is left to be a label, is the
    renderer's own decision; a tenth of the labels is dropped and edges jitter by 1.5 %.
    """
    from stages.datasets.render.config import RenderConfig
    from stages.datasets.render.scene import build_scene
    from stages.datasets.render.video import render_frames

    config = RenderConfig(image_wh=list(WH), frames_per_video=NUM_FRAMES, person_frac=0.0)
    generator = np.random.default_rng(seed)
    scene = build_scene(generator, "test", config)
    while len(scene.scripts) < 2:
        scene = build_scene(generator, "test", config)
    scripts = []
    for script, height, is_back in zip(scene.scripts[-2:], heights, (False, True)):
        states = []
        for index, state in enumerate(script.states):
            across = 0.2 + 0.6 * index / (NUM_FRAMES - 1)
            x = WH[0] * (1 - across if is_back else across)
            states.append(state._replace(middle=(x, WH[1] * height)))
        scripts.append(script._replace(states=tuple(states)))
    scene = scene._replace(scripts=tuple(scripts), covers=(), held=(None, None))
    rng = np.random.RandomState(seed)
    names = [script.field for script in scripts]
    frames = []
    for frame in render_frames(scene, generator, config):
        hands = [names.index(hand.field) for hand in frame.hands if rng.uniform() > 0.1]
        outlines = {names.index(hand.field): hand.outline for hand in frame.hands}
        boxes = np.array(
            [np.concatenate([outlines[n].min(axis=0), outlines[n].max(axis=0)]) for n in hands]
        ).reshape(-1, 4)
        extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        frames.append((hands, boxes + rng.normal(0, 0.015, boxes.shape) * extent))
    return frames


@pytest.fixture(scope="module")
def drawn():
    return [draw_crossing(seed, heights) for heights in PATHS for seed in range(4)]


def test_drawn_hands_change_sides_and_overlap(drawn):
    for frames in drawn:
        both = [boxes[np.argsort(hands)] for hands, boxes in frames if len(hands) == 2]
        assert both[0][0, 0] < both[0][1, 0]
        assert both[-1][0, 0] > both[-1][1, 0]
        assert max(box_iou(boxes[:1], boxes[1:])[0, 0] for boxes in both) > 0.05


def test_drawn_crossings_keep_their_numbers(drawn):
    old = [count_switches(OverlapTracker(), frames) for frames in drawn]
    new = [count_switches(Tracker(), frames) for frames in drawn]
    assert sum(switches > 0 for switches in old) >= len(drawn) // 3
    assert new == [0] * len(drawn)
