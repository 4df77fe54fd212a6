"""What the classifier is fed: batches of changed training crops, and tensors of plain ones."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.augment import NO_CHANGE, apply_change, draw_changes
from stages.gesturenet.config import INPUT_WH, GestureConfig
from stages.gesturenet.crops import Crops


def training_batches(
    crops: Crops, config: GestureConfig, epoch: int, *, rule: RoiRule, pool: ThreadPoolExecutor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (images (B, 3, R, R), class ids (B,)) of one epoch; R is the epoch's resolution.

    The same (config.seed, epoch) gives the same batches, whatever the number of threads.
    """
    generator = np.random.default_rng([config.seed, epoch])
    size_px = epoch_resolution(config, epoch)
    order = balanced_order(crops.class_id, generator)
    for start in range(0, len(order), config.batch_size):
        indices = order[start : start + config.batch_size]
        if len(indices) > 1 or start == 0:  # batch normalisation has no variance for a single crop
            images = _changed(crops, indices, generator, config, rule, size_px=size_px, pool=pool)
            yield crops_to_tensor(images), torch.from_numpy(crops.class_id[indices])


def epoch_resolution(config: GestureConfig, epoch: int) -> int:
    """Return the side of an epoch's crops: config.resolutions in equal shares, in order."""
    left = config.epochs - 1 - epoch
    return config.resolutions[-1 - (left * len(config.resolutions) // config.epochs)]


def balanced_order(class_id: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return indices of crops (M,), shuffled, with every present class equally often.

    M is the number of crops, rounded up to a multiple of the number of classes. Crops of rare
    classes come several times, none twice more often than another of its class.
    """
    classes = np.unique(class_id)
    share = math.ceil(len(class_id) / len(classes))
    parts = []
    for one in classes:
        members = np.flatnonzero(class_id == one)
        rounds = [
            generator.permutation(members) for _round in range(math.ceil(share / len(members)))
        ]
        parts.append(np.concatenate(rounds)[:share])
    return generator.permutation(np.concatenate(parts))


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
    config: GestureConfig,
    rule: RoiRule,
    *,
    size_px: int,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Return the changed crops (B, size_px, size_px, 3) uint8 BGR of a batch."""
    boxes = crops.boxes[indices]
    changes = draw_changes(boxes, generator, config.augment, rule, size_px=size_px)

    def change(pair: tuple[int, int]) -> np.ndarray:
        place, index = pair
        return apply_change(crops.images[index], changes[place], size_px=size_px)

    return np.stack(list(pool.map(change, enumerate(indices))))
