"""Batches that the training device makes itself: the crops lie in its memory.

On a GPU this takes a tenth of the time that the CPU's cores need (feed.training_batches); the
plan of every batch is the same one.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.backgrounds import Backgrounds
from stages.gesturenet.batch_augment import Scene, apply_changes, set_behind
from stages.gesturenet.config import GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.feed import Batch, Plan, plan_epoch, planned_joints

Item = TypeVar("Item")


class Resident(NamedTuple):
    """Crops and, on the device, their images (N, S, S, 3) uint8 BGR and scene; mask_of: which of
    the scene's masks belongs to a crop, by index."""

    crops: Crops
    images: torch.Tensor
    backgrounds: Backgrounds | None
    scene: Scene | None
    mask_of: dict[int, int]


def prepare_device(
    crops: Crops, backgrounds: Backgrounds | None, device: torch.device
) -> Resident:
    """Copy crops and backgrounds to the device: 110 kB for each crop of 192 pixels."""
    scene, mask_of = None, {}
    if backgrounds is not None and backgrounds.masks:
        masks = np.stack(list(backgrounds.masks.values()))
        mask_of = {index: place for place, index in enumerate(backgrounds.masks)}
        pictures = torch.from_numpy(np.ascontiguousarray(backgrounds.pictures))
        scene = Scene(pictures.to(device), torch.from_numpy(masks).to(device))
    images = torch.from_numpy(np.ascontiguousarray(crops.images)).to(device)
    return Resident(crops, images, backgrounds, scene, mask_of)


def device_batches(
    resident: Resident, config: GestureConfig, epoch: int, *, rule: RoiRule
) -> Iterator[Batch]:
    """Yield the batches of one epoch, on the device; each is made while the last one is used."""
    plans = plan_epoch(resident.crops, config, epoch, rule=rule, backgrounds=resident.backgrounds)
    return run_ahead(make_batch(resident, plan) for plan in plans)


def make_batch(resident: Resident, plan: Plan) -> Batch:
    """Make what a plan says of the crops."""
    device = resident.images.device
    where = torch.from_numpy(plan.indices).to(device)
    images = resident.images[where].permute(0, 3, 1, 2).float()
    places = [place for place, how in enumerate(plan.behind) if how is not None]
    if places and resident.scene is not None:
        chosen = torch.tensor(places).to(device)
        masks = [resident.mask_of[int(plan.indices[place])] for place in places]
        hows = [how for how in plan.behind if how is not None]
        images = images.index_copy(
            0, chosen, set_behind(images[chosen], resident.scene, masks, hows)
        )
    pictures = apply_changes(images, plan.changes, size_px=plan.size_px)
    joints = planned_joints(resident.crops, plan).to(device)
    return Batch(pictures, torch.from_numpy(plan.class_id).to(device), joints)


def run_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the items, each made by another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(_next_or_none, items)
        while (item := following.result()) is not None:
            following = pool.submit(_next_or_none, items)
            yield item


def _next_or_none(items: Iterator[Item]) -> Item | None:
    return next(items, None)
