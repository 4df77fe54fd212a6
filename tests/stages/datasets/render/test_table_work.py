"""People at work at a table: hands near each other, without gestures, all in reach."""

import numpy as np
import pytest

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.scene import Scene
from stages.datasets.render.script import HandScript, Region
from stages.datasets.render.skeleton import rotation_matrix
from stages.datasets.render.table_work import work_region, write_work
from stages.datasets.render.video import MIN_VISIBLE, render_frames

CONFIG = RenderConfig(seed=4, image_wh=[480, 270], frames_per_video=12, table_work_frac=1.0)
REGION = Region((0.4, 0.6), (0.4, 0.6), (0.2, 0.3))


def written(side: str, seed: int) -> tuple[HandScript, ...]:
    return write_work(np.random.default_rng(seed), side, REGION, CONFIG, is_pair=True)


@pytest.mark.parametrize("side", ["my", "your"])
def test_a_pair_is_one_left_and_one_right_hand_of_one_person(side: str) -> None:
    first, second = written(side, 1)
    assert {first.field, second.field} == {f"{side}left", f"{side}right"}
    assert first.shape is second.shape
    single = write_work(np.random.default_rng(2), side, REGION, CONFIG, is_pair=False)
    assert len(single) == 1


def test_nobody_at_work_shows_a_gesture() -> None:
    assert all(state.label is None for script in written("my", 3) for state in script.states)


@pytest.mark.parametrize(("side", "down"), [("my", False), ("your", True)])
def test_mine_point_up_and_the_partners_inward_or_down(side: str, down: bool) -> None:
    fingers = np.array([0.0, 1.0, 0.0])
    up, inward = [], []
    for seed in range(12):
        for script in written(side, seed):
            outward = 1.0 if script.is_left == (side == "your") else -1.0
            for state in script.states:
                x, y, _ = rotation_matrix(*state.turn) @ fingers
                up.append(y)
                inward.append(-outward * x)
    assert (np.mean(up) < 0.1) == down
    assert (np.mean(up) > 0.5) != down
    assert np.mean(inward) > (0.6 if down else 0.2)


def test_hands_of_a_pair_stand_on_their_sides() -> None:
    for seed in range(12):
        hands = {script.field: script for script in written("your", seed)}
        left = np.mean([state.middle[0] for state in hands["yourleft"].states])
        right = np.mean([state.middle[0] for state in hands["yourright"].states])
        assert left > right, "the partner's left hand is on the right of the picture"


def test_the_partners_hands_are_on_the_far_half_of_the_table() -> None:
    far, near = (work_region(side, horizon=0.3, face=0.25) for side in ("your", "my"))
    assert far.y[1] < near.y[0]
    assert far.length == (0.18, 0.25)


def test_every_hand_at_work_is_labelled_without_a_gesture() -> None:
    hands = 0
    for number in range(6):
        scene, rng = open_scene(Job(CONFIG, "train", number, ""))
        assert len(scene.held) == len(scene.scripts)
        for frame in render_frames(scene, rng, CONFIG, [0, 11]):
            assert frame.hands
            hands += len(frame.hands)
            for hand in frame.hands:
                assert hand.gesture is None
                assert hand.visible >= MIN_VISIBLE
    assert hands > 18


def test_something_in_front_of_the_fingers_hides_them() -> None:
    pairs = []
    for number in range(8):
        scene, _ = open_scene(Job(CONFIG, "train", number, ""))
        for script, held in zip(scene.scripts, scene.held, strict=True):
            if held and held.is_in_front:
                alone = scene._replace(scripts=(script,), covers=(), held=(held,))
                pairs.append([seen(alone), seen(alone._replace(held=(None,)))])
    assert all(with_it <= without for with_it, without in pairs)
    assert np.mean([with_it < without for with_it, without in pairs]) > 0.5


def seen(scene: Scene) -> float:
    frames = render_frames(scene, np.random.default_rng(0), CONFIG, [0])
    return next(iter(frames)).hands[0].visible


def test_bare_forearms_come_with_short_sleeves() -> None:
    people = []
    for number in range(10):
        scene, _ = open_scene(Job(CONFIG, "train", number, ""))
        people += [scene.me, scene.you]
    assert {person.cuff > 1.0 for person in people} == {True, False}
    assert all((person.short_sleeve > 0.0) == (person.cuff > 1.0) for person in people)


def test_other_videos_stay_as_they_were() -> None:
    plain = RenderConfig(seed=4, image_wh=[480, 270], frames_per_video=12)
    scene, rng = open_scene(Job(plain, "train", 0, ""))
    assert set(scene.held) == {None}
    assert {person.short_sleeve for person in (scene.me, scene.you)} == {0.0}
    # The number that followed scene 0 before the renderer knew people at work.
    assert rng.uniform() == pytest.approx(0.5293075567517112)
