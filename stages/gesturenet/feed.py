"""What the classifier is fed: batches of changed training crops, and tensors of plain ones."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.augment import NO_CHANGE, Change, apply_change, draw_changes
from stages.gesturenet.backgrounds import (
    Backgrounds,
    Behind,
    change_background,
    draw_behind,
    find_backgrounds,
)
from stages.gesturenet.config import GESTURES, INPUT_WH, GestureConfig
from stages.gesturenet.crops import NO_GESTURE, Crops
from stages.gesturenet.sampling import DRAWN, balanced_order, mixed_order, source_names
from stages.gesturenet.turning import draw_turns, taught_classes

NUM_BACKGROUNDS = 400


class Batch(NamedTuple):
    """images: (B, 3, R, R) float32 RGB in [0, 1]. class_id: (B,) int64. joints: (B, 21, 2)
    float32, fractions of the pictures' sides; NaN where unknown."""

    images: torch.Tensor
    class_id: torch.Tensor
    joints: torch.Tensor


class Plan(NamedTuple):
    """What becomes of the crops of one batch: indices (B,), and of each what it is taught as (B,)
    int64, its change, and what is set behind it (None: nothing)."""

    indices: np.ndarray
    class_id: np.ndarray
    changes: list[Change]
    behind: list[Behind | None]
    size_px: int


def training_batches(
    crops: Crops,
    config: GestureConfig,
    epoch: int,
    *,
    rule: RoiRule,
    pool: ThreadPoolExecutor,
    backgrounds: Backgrounds | None = None,
) -> Iterator[Batch]:
    """Yield the batches of one epoch; R is the epoch's resolution.

    backgrounds: what choose_backgrounds made of the crops. The same (config.seed, epoch) gives the
    same batches, whatever the number of threads.
    """
    for plan in plan_epoch(crops, config, epoch, rule=rule, backgrounds=backgrounds):
        images = crops_to_tensor(_changed(crops, plan, pool, backgrounds))
        yield Batch(images, torch.from_numpy(plan.class_id), planned_joints(crops, plan))


def plan_epoch(
    crops: Crops,
    config: GestureConfig,
    epoch: int,
    *,
    rule: RoiRule,
    backgrounds: Backgrounds | None = None,
) -> Iterator[Plan]:
    """Draw everything random of an epoch's batches, one after the other."""
    generator = np.random.default_rng([config.seed, epoch])
    size_px = epoch_resolution(config, epoch)
    order = epoch_order(crops, config, generator)
    for start in range(0, len(order), config.batch_size):
        indices = order[start : start + config.batch_size]
        if len(indices) > 1 or start == 0:  # batch normalisation has no variance for a single crop
            yield _plan_batch(
                crops, indices, generator, config, rule, size_px=size_px, backgrounds=backgrounds
            )


def _plan_batch(
    crops: Crops,
    indices: np.ndarray,
    generator: np.random.Generator,
    config: GestureConfig,
    rule: RoiRule,
    *,
    size_px: int,
    backgrounds: Backgrounds | None,
) -> Plan:
    boxes, class_id = crops.boxes[indices], crops.class_id[indices]
    turns = draw_turns(crops.joints[indices], class_id, generator, config.augment)
    changes = draw_changes(
        boxes, generator, config.augment, rule, size_px=size_px, turns_deg=turns
    )
    behind = _draw_behind(indices, generator, config, backgrounds)
    return Plan(indices, taught_classes(class_id, turns), changes, behind, size_px)


def planned_joints(crops: Crops, plan: Plan) -> torch.Tensor:
    """Return where a plan moves the joints of its crops: (B, 21, 2), as in Batch."""
    matrices = np.stack([change.matrix for change in plan.changes])  # (B, 2, 3)
    # A change's matrix puts the centres of pixels at integers; joints have them at halves.
    moved = (crops.joints[plan.indices] - 0.5) @ matrices[:, :, :2].transpose(0, 2, 1)
    moved = moved + matrices[:, None, :, 2] + 0.5
    return torch.from_numpy((moved / plan.size_px).astype(np.float32))


def epoch_order(crops: Crops, config: GestureConfig, generator: np.random.Generator) -> np.ndarray:
    """Return the indices of an epoch's crops (M,): classes in equal shares, drawn ones in
    config.drawn.share where that is set."""
    if config.drawn.share is None:
        return balanced_order(crops.class_id, generator)
    sources = source_names(crops.names)
    return mixed_order(
        crops.class_id,
        sources,
        generator,
        drawn_share=config.drawn.share,
        class_weights={GESTURES.index(NO_GESTURE): config.drawn.random_weight},
    )


def choose_backgrounds(crops: Crops, config: GestureConfig) -> Backgrounds | None:
    """Cut out the crops of one's own that stand before a plain wall; None where that is off."""
    if not (config.augment.enabled and config.augment.background_probability):
        return None
    own = [index for index, name in enumerate(source_names(crops.names)) if name != DRAWN]
    return find_backgrounds(crops.images, own, num_pictures=NUM_BACKGROUNDS, seed=config.seed)


def epoch_resolution(config: GestureConfig, epoch: int) -> int:
    """Return the side of an epoch's crops: config.resolutions in equal shares, in order."""
    left = config.epochs - 1 - epoch
    return config.resolutions[-1 - (left * len(config.resolutions) // config.epochs)]


def plain_crops(crops: Crops, *, num: int, rule: RoiRule) -> np.ndarray:
    """Return up to `num` evenly chosen crops as the runtime cuts them (n, 160, 160, 3)."""
    chosen = np.linspace(0, len(crops.names) - 1, min(num, len(crops.names))).astype(int)
    generator = np.random.default_rng(0)  # nothing is drawn from it that has an effect
    boxes, size_px = crops.boxes[chosen], INPUT_WH[0]
    changes = draw_changes(boxes, generator, NO_CHANGE, rule, size_px=size_px)
    pairs = zip(chosen, changes, strict=True)
    return np.stack([apply_change(crops.images[i], one, size_px=size_px) for i, one in pairs])


def crops_to_tensor(images_bgr: np.ndarray) -> torch.Tensor:
    """Turn crops (N, S, S, 3) uint8 BGR into (N, 3, S, S) float32 RGB in [0, 1]."""
    if len(images_bgr) == 0:
        return torch.zeros((0, 3, *images_bgr.shape[1:3]))
    rows = images_bgr.reshape(-1, images_bgr.shape[2], 3)  # one tall picture: a single call
    rgb = cv2.cvtColor(rows, cv2.COLOR_BGR2RGB).reshape(images_bgr.shape)
    # Permuted last: converting a permuted tensor takes several times as long.
    return torch.from_numpy(rgb).float().div_(255).permute(0, 3, 1, 2)


def _changed(
    crops: Crops, plan: Plan, pool: ThreadPoolExecutor, backgrounds: Backgrounds | None
) -> np.ndarray:
    """Return the changed crops (B, R, R, 3) uint8 BGR of a batch."""

    def change(place: int) -> np.ndarray:
        index, how = int(plan.indices[place]), plan.behind[place]
        image = crops.images[index]
        if how is not None and backgrounds is not None:
            image = change_background(image, backgrounds.masks[index], backgrounds.pictures, how)
        return apply_change(image, plan.changes[place], size_px=plan.size_px)

    return np.stack(list(pool.map(change, range(len(plan.indices)))))


def _draw_behind(
    indices: np.ndarray,
    generator: np.random.Generator,
    config: GestureConfig,
    backgrounds: Backgrounds | None,
) -> list[Behind | None]:
    """Draw what is set behind the crops at indices (B,); None for those that stay as they are."""
    if backgrounds is None:
        return [None] * len(indices)
    is_changed = generator.random(len(indices)) < config.augment.background_probability
    seeds = generator.integers(0, 2**32, len(indices))
    num = len(backgrounds.pictures)
    return [
        draw_behind(num, np.random.default_rng(seed))
        if changed and int(index) in backgrounds.masks
        else None
        for index, seed, changed in zip(indices, seeds, is_changed, strict=True)
    ]
