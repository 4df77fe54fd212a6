"""What the classifier is fed: batches of changed training crops, and tensors of plain ones."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.augment import NO_CHANGE, apply_change, draw_changes
from stages.gesturenet.backgrounds import Backgrounds, change_background, find_backgrounds
from stages.gesturenet.config import INPUT_WH, GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.sampling import DRAWN, balanced_order, mixed_order, source_names

NUM_BACKGROUNDS = 400


class _View(NamedTuple):
    """How crops are turned into training pictures."""

    config: GestureConfig
    rule: RoiRule
    size_px: int
    backgrounds: Backgrounds | None


def training_batches(
    crops: Crops,
    config: GestureConfig,
    epoch: int,
    *,
    rule: RoiRule,
    pool: ThreadPoolExecutor,
    backgrounds: Backgrounds | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images (B, 3, R, R), class ids (B,)) of one epoch; R is the epoch's resolution.

    backgrounds: what choose_backgrounds made of the crops. The same (config.seed, epoch) gives the
    same batches, whatever the number of threads.
    """
    generator = np.random.default_rng([config.seed, epoch])
    view = _View(config, rule, epoch_resolution(config, epoch), backgrounds)
    order = epoch_order(crops, config, generator)
    for start in range(0, len(order), config.batch_size):
        indices = order[start : start + config.batch_size]
        if len(indices) > 1 or start == 0:  # batch normalisation has no variance for a single crop
            images = _changed(crops, indices, generator, view, pool)
            yield crops_to_tensor(images), torch.from_numpy(crops.class_id[indices])


def epoch_order(crops: Crops, config: GestureConfig, generator: np.random.Generator) -> np.ndarray:
    """Return the indices of an epoch's crops (M,): classes in equal shares, drawn ones in
    config.drawn.share where that is set."""
    if config.drawn.share is None:
        return balanced_order(crops.class_id, generator)
    sources = source_names(crops.names)
    return mixed_order(crops.class_id, sources, generator, drawn_share=config.drawn.share)


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
    crops: Crops,
    indices: np.ndarray,
    generator: np.random.Generator,
    view: _View,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Return the changed crops (B, R, R, 3) uint8 BGR of a batch."""
    boxes, augment = crops.boxes[indices], view.config.augment
    changes = draw_changes(boxes, generator, augment, view.rule, size_px=view.size_px)
    seeds = _draw_backgrounds(len(indices), generator, view)

    def change(place: int) -> np.ndarray:
        image = _before_another(crops.images, int(indices[place]), seeds[place], view.backgrounds)
        return apply_change(image, changes[place], size_px=view.size_px)

    return np.stack(list(pool.map(change, range(len(indices)))))


def _draw_backgrounds(num: int, generator: np.random.Generator, view: _View) -> list[int | None]:
    """Draw a seed for each crop that gets another background; None for the others."""
    if view.backgrounds is None:
        return [None] * num
    is_changed = generator.random(num) < view.config.augment.background_probability
    seeds = generator.integers(0, 2**32, num)
    return [
        int(seed) if changed else None for seed, changed in zip(seeds, is_changed, strict=True)
    ]


def _before_another(
    images: np.ndarray, index: int, seed: int | None, backgrounds: Backgrounds | None
) -> np.ndarray:
    """Return the crop at index, before another background if it has a mask and a seed."""
    if seed is None or backgrounds is None or index not in backgrounds.masks:
        return cast(np.ndarray, images[index])
    generator = np.random.default_rng(seed)
    picture = backgrounds.pictures[generator.integers(len(backgrounds.pictures))]
    return change_background(images[index], backgrounds.masks[index], picture, generator)
