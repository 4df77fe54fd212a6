"""The order of training pictures and their batches, on the device that trains.

Nothing here keeps a state between epochs: order and augmentation follow from seed, epoch and
process alone, so that a resumed run sees what an uninterrupted one would.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from stages.detectnet.data import Samples, pad_boxes
from stages.detectnet.warp import Batch

DEVICE_MEMORY_FRAC = 0.5


class Shard(NamedTuple):
    """One process's part of the work: its rank among world_size."""

    rank: int
    world_size: int


class Feed:
    """Batches of one split; the pictures stay on the GPU where half its free memory holds them.

    Boxes stay on the CPU, which is done with so few numbers before a GPU has started.
    """

    def __init__(self, samples: Samples, *, device: torch.device) -> None:
        padded, is_box = pad_boxes(samples.boxes)
        self._device = device
        self._boxes, self._is_box = torch.from_numpy(padded), torch.from_numpy(is_box)
        images = torch.from_numpy(samples.images)
        self._images = images.to(device) if _fits(images, device) else images

    def batch(self, indices: torch.Tensor) -> Batch:
        """Gather the pictures of the indices (B,) int64 on the CPU."""
        where = indices.to(self._images.device, non_blocking=True)
        images = self._images.index_select(0, where).to(self._device, non_blocking=True)
        return Batch(images, self._boxes[indices], self._is_box[indices])


def count_steps(num_samples: int, *, batch_size: int, world_size: int) -> int:
    """Steps per epoch: batches rounded up, then shared among the processes, rounded up."""
    return math.ceil(math.ceil(num_samples / batch_size) / world_size)


def epoch_order(
    num_samples: int, *, batch_size: int, shard: Shard, seed: int, epoch: int
) -> torch.Tensor:
    """Return this process's picture indices of one epoch, (steps, batch_size).

    Every picture comes once; what the last batches lack is filled from the order's start, so that
    all batches are full. The processes' batches of a step, one after the other, are the batch that
    a single process with batch_size * world_size would take.
    """
    steps = count_steps(num_samples, batch_size=batch_size, world_size=shard.world_size)
    order = torch.randperm(num_samples, generator=seeded(seed, epoch))
    wanted = steps * batch_size * shard.world_size
    filled = order.repeat(math.ceil(wanted / num_samples))[:wanted]
    return filled.view(steps, shard.world_size, batch_size)[:, shard.rank]


def seeded(*parts: int) -> torch.Generator:
    """Make a CPU generator whose stream depends on all the whole numbers given."""
    # The count comes first: SeedSequence takes (1,) and (1, 0) for the same.
    state = np.random.SeedSequence((len(parts), *parts)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return images.numel() <= DEVICE_MEMORY_FRAC * free_bytes
