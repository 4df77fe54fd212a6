"""The drawn set is hard enough to mean something, and not harder than it may be."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deploy.core.average_precision import evaluate_detections
from deploy.core.cluster import Postprocess
from stages.datasets.config import DatasetConfig
from stages.datasets.convert import convert_dataset
from stages.datasets.index import read_index
from stages.datasets.render.appearance import CLOTHS, WALLS, owner_of
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import render_dataset
from stages.datasets.render.poses import GESTURES
from stages.datasets.render.script import FIELDS
from stages.datasets.render.video import MIN_HEIGHT_GESTURE, MIN_VISIBLE, MIN_VISIBLE_GESTURE, Hand
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.detectnet.data import Samples, load_samples
from stages.detectnet.training import fit
from stages.detectnet.validation import validate
from stages.train import build_model
from tests.stages.datasets.render.conftest import Video
from tests.stages.datasets.render.skin_detector import detect_skin

POSTPROCESS = Postprocess(
    **yaml.safe_load((Path(__file__).parents[4] / "conf/postprocess/default.yaml").read_text())
)


def all_hands(videos: list[Video]) -> list[Hand]:
    return [hand for video in videos for frame in video.frames for hand in frame.hands]


def height_of(hand: Hand, config: RenderConfig) -> float:
    return float(np.ptp(hand.outline[:, 1])) / config.image_wh[1]


def test_hand_heights_are_within_bounds(
    sample_videos: list[Video], sample_config: RenderConfig
) -> None:
    heights = np.array([height_of(hand, sample_config) for hand in all_hands(sample_videos)])
    assert heights.min() >= 0.05
    assert heights.max() <= 0.45
    assert ((heights > 0.12) & (heights < 0.40)).mean() > 0.7


def test_at_least_a_quarter_is_overlapped_or_cut(sample_videos: list[Video]) -> None:
    visible = np.array([hand.visible for hand in all_hands(sample_videos)])
    assert (visible < 0.95).mean() >= 0.25
    assert visible.min() >= MIN_VISIBLE
    assert np.median(visible) > 0.8, "most hands can be seen"
    assert (visible < 0.5).mean() < 0.12, "heavily hidden hands are rare"


def test_every_frame_has_one_to_four_hands_of_distinct_fields(sample_videos: list[Video]) -> None:
    counts = Counter()
    for video in sample_videos:
        for frame in video.frames:
            fields = [hand.field for hand in frame.hands]
            assert 1 <= len(fields) <= 4
            assert len(set(fields)) == len(fields)
            assert set(fields) <= set(FIELDS)
            counts[len(fields)] += 1
    assert len(counts) >= 3


def test_every_room_has_distractors_in_skin_colours(sample_videos: list[Video]) -> None:
    assert min(video.scene.num_distractors for video in sample_videos) >= 1


def test_outlines_lie_inside_the_frame(
    sample_videos: list[Video], sample_config: RenderConfig
) -> None:
    for hand in all_hands(sample_videos):
        assert len(hand.outline) >= 3
        assert (hand.outline >= 0).all()
        assert (hand.outline <= sample_config.image_wh).all()


def test_gestures_are_labelled_only_when_visible(
    sample_videos: list[Video], sample_config: RenderConfig
) -> None:
    for hand in all_hands(sample_videos):
        assert hand.gesture is None or hand.gesture in GESTURES
        if hand.gesture is not None:
            assert hand.visible >= MIN_VISIBLE_GESTURE
            assert height_of(hand, sample_config) >= MIN_HEIGHT_GESTURE


def test_all_gestures_occur_and_most_hands_have_one(sample_videos: list[Video]) -> None:
    counts = Counter(hand.gesture for hand in all_hands(sample_videos))
    assert set(GESTURES) <= set(counts)
    assert counts[None] < 0.4 * sum(counts.values())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_people_and_rooms_belong_to_their_split(sample_videos: list[Video], split: str) -> None:
    scenes = [video.scene for video in sample_videos if video.split == split]
    for scene in scenes:
        assert owner_of(scene.me.skin_depth) == owner_of(scene.you.skin_depth) == split
        assert scene.me.sleeve.pattern in CLOTHS[split]
        assert scene.place.split("-")[0].lower() in WALLS[split]


@pytest.mark.parametrize("cut_arms", [False, True])
def test_skin_colour_does_not_find_the_hands(
    sample_videos: list[Video], *, cut_arms: bool
) -> None:
    truths, found = {}, {}
    for number, video in enumerate(sample_videos):
        if video.split != "test":
            continue
        for index, frame in enumerate(video.frames):
            name = f"{number:02d}_{index}"
            boxes = [
                [*hand.outline.min(axis=0), *hand.outline.max(axis=0)] for hand in frame.hands
            ]
            truths[name] = np.array(boxes, np.float32).reshape(-1, 4)
            found[name] = detect_skin(frame.image, cut_arms=cut_arms)
    metrics = evaluate_detections(found, truths, confidence_threshold=0.5)
    assert 0.0 < metrics.ap50 <= 0.3


def test_a_small_net_after_one_epoch_does_not_find_the_hands(tmp_path: Path) -> None:
    """960 pictures, as many as an epoch of the default set; 240 drawn ones, four times each."""
    samples = draw_samples(tmp_path)
    config = TrainConfig(epochs=4, validate_every_epochs=0)
    assert (ModelConfig().width, len(samples["train"]) * config.epochs) == (16, 960)
    network = build_model(ModelConfig(), seed=config.seed)
    result = fit(network, samples["train"], None, config, postprocess=POSTPROCESS, work_dir=None)
    found = validate(result.model, samples["test"], POSTPROCESS, device=torch.device("cpu"))
    assert found["ap50"] <= 0.6


def draw_samples(folder: Path) -> dict[str, Samples]:
    config = RenderConfig(train_videos=60, val_videos=0, test_videos=10, frames_per_video=4)
    raw, kitti = folder / "raw", folder / "kitti"
    kitti.mkdir()
    render_dataset(config, raw, workers=1)
    convert_dataset(DatasetConfig(kind="rendered", render=config), raw, kitti)
    stems = [row.stem for row in read_index(kitti / "index.csv")]
    return {
        side: load_samples(
            kitti,
            [stem for stem in stems if stem.startswith(side.upper())],
            input_wh=ModelConfig().input_wh,
        )
        for side in ("train", "test")
    }
