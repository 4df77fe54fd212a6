from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.augment import NO_CHANGE
from stages.gesturenet.config import DrawnConfig, GestureAugmentConfig, GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.feed import (
    choose_backgrounds,
    crops_to_tensor,
    epoch_order,
    epoch_resolution,
    plain_crops,
    training_batches,
)
from stages.gesturenet.sampling import balanced_order
from stages.gesturenet.training import Row, fit, learning_rate_at, predict_logits
from tests.stages.gesturenet.samples import striped_crops

RULE = RoiRule()
TINY = GestureConfig(
    width=4,
    epochs=4,
    batch_size=16,
    resolutions=[32, 64],
    learning_rate=0.03,
    accelerator="cpu",
    precision="32-true",
    augment=GestureAugmentConfig(rotate_max_deg=4.0, flip_probability=0.0, lowres_probability=0.0),
)


def ignore(row: Row) -> None:
    pass


def test_a_tiny_set_is_learned(tmp_path: Path) -> None:
    train = striped_crops(8, size_px=96)
    val = striped_crops(2, size_px=64, seed=1, box_frac=0.7)
    rows: list[Row] = []
    config = GestureConfig(**{**vars(TINY), "epochs": 16, "resolutions": [64]})
    result = fit(train, val, config, rule=RULE, work_dir=tmp_path, log=rows.append)
    assert result.history[-1]["val_accuracy"] == 1.0
    assert rows == result.history
    assert [row["epoch"] for row in rows] == list(range(1, 17))


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = striped_crops(4, size_px=96), striped_crops(1, size_px=64)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = fit(train, val, TINY, rule=RULE, work_dir=whole, log=ignore)

    def die(row: Row) -> None:
        if row["epoch"] == 3.0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(train, val, TINY, rule=RULE, work_dir=cut, log=die)
    resumed = fit(train, val, TINY, rule=RULE, work_dir=cut, log=ignore)
    assert resumed.history == expected.history
    for name, value in expected.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_checkpoint_of_another_configuration_is_not_used(tmp_path: Path) -> None:
    train, val = striped_crops(2, size_px=96), striped_crops(1, size_px=64)
    config = GestureConfig(**{**vars(TINY), "epochs": 2})
    fit(train, val, config, rule=RULE, work_dir=tmp_path, log=ignore)
    other = GestureConfig(**{**vars(TINY), "epochs": 2, "seed": 1})
    rows: list[Row] = []
    fit(train, val, other, rule=RULE, work_dir=tmp_path, log=rows.append)
    assert len(rows) == 2


def test_without_validation_crops_the_history_has_the_loss_alone(tmp_path: Path) -> None:
    train, none = striped_crops(2, size_px=96), striped_crops(0, size_px=64)
    config = GestureConfig(**{**vars(TINY), "epochs": 1})
    result = fit(train, none, config, rule=RULE, work_dir=tmp_path, log=ignore)
    assert list(result.history[0]) == ["epoch", "loss"]
    assert predict_logits(result.model, crops_to_tensor(none.images)).shape == (0, 6)


def test_batches_do_not_depend_on_the_number_of_threads() -> None:
    crops = striped_crops(3, size_px=96)
    config = GestureConfig(**{**vars(TINY), "augment": GestureAugmentConfig()})
    runs = []
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            runs.append(list(training_batches(crops, config, 2, rule=RULE, pool=pool)))
    for (one, one_ids, _), (two, two_ids, _) in zip(*runs, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one_ids, two_ids)


def walled_crops(num: int) -> Crops:
    """Squares before a white wall: drawn ones of every class, then one's own, and so on."""
    crops = striped_crops(num, size_px=96)
    images = np.full_like(crops.images, 235)
    images[:, 34:62, 34:62] = (40, 90, 220)
    names = tuple(f"me/two/{n}.jpg" if n // 6 % 2 else f"v_{n}#0" for n in range(len(images)))
    return crops._replace(images=images, names=names)


def test_own_crops_get_other_backgrounds_and_drawn_ones_keep_theirs() -> None:
    crops = walled_crops(2)
    augment = GestureAugmentConfig(**{**vars(NO_CHANGE), "background_probability": 1.0})
    config = GestureConfig(**{**vars(TINY), "augment": augment, "batch_size": 12})
    backgrounds = choose_backgrounds(crops, config)
    assert backgrounds is not None
    assert sorted(backgrounds.masks) == [6, 7, 8, 9, 10, 11]
    runs = []
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            batches = training_batches(
                crops, config, 0, rule=RULE, pool=pool, backgrounds=backgrounds
            )
            runs.append(next(batches))
    assert torch.equal(runs[0][0], runs[1][0])
    order = epoch_order(crops, config, np.random.default_rng([config.seed, 0]))[:12]
    corners = runs[0][0][:, :, 2, 2].mean(dim=1)
    is_white = (corners - 235 / 255).abs() < 0.01
    assert is_white.tolist() == [index < 6 for index in order.tolist()]


def test_backgrounds_are_looked_for_only_when_wanted() -> None:
    assert choose_backgrounds(walled_crops(1), TINY) is None


def test_share_of_drawn_hands_decides_the_order() -> None:
    crops = walled_crops(20)
    config = GestureConfig(**{**vars(TINY), "drawn": DrawnConfig(share=0.25)})
    order = epoch_order(crops, config, np.random.default_rng(0))
    assert np.mean(order // 6 % 2 == 0) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 15])
def test_resolutions_grow_and_end_with_the_last(epochs: int) -> None:
    config = GestureConfig(epochs=epochs, resolutions=[96, 128, 160])
    sides = [epoch_resolution(config, epoch) for epoch in range(epochs)]
    assert sides == sorted(sides)
    assert sides[-1] == 160
    if epochs >= 3:
        assert set(sides) == {96, 128, 160}


def test_classes_come_equally_often_and_every_crop_of_the_common_ones() -> None:
    class_id = np.array([0] * 10 + [1] * 2 + [5] * 3)
    order = balanced_order(class_id, np.random.default_rng(0))
    assert np.bincount(class_id[order], minlength=6).tolist() == [5, 5, 0, 0, 0, 5]
    for one in (1, 5):
        counts = np.bincount(order, minlength=15)[class_id == one]
        assert counts.max() - counts.min() <= 1


def test_learning_rate_rises_then_falls_to_zero() -> None:
    config = GestureConfig(learning_rate=0.1, warmup_frac=0.2)
    rates = [learning_rate_at(progress, config) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0])


def test_tensor_is_rgb_in_zero_to_one() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1, 2, 3] = (0, 51, 255)  # BGR
    tensor = crops_to_tensor(images)
    assert tensor.shape == (2, 3, 4, 4)
    assert tensor[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert tensor[0].abs().sum() == 0


def test_plain_crops_are_the_runtimes_size_and_at_most_what_is_asked_for() -> None:
    crops = striped_crops(2, size_px=96)
    assert plain_crops(crops, num=5, rule=RULE).shape == (5, 160, 160, 3)
    assert plain_crops(crops, num=100, rule=RULE).shape == (12, 160, 160, 3)
