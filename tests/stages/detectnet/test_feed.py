"""Epoch orders: complete, shared, reproducible."""

import numpy as np
import pytest
import torch

from stages.detectnet.data import Samples
from stages.detectnet.feed import Feed, Shard, count_steps, epoch_order, seeded


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "world_size", "expected"),
    [(1, 4, 1, 1), (8, 4, 1, 2), (9, 4, 1, 3), (9, 4, 2, 2), (16, 4, 4, 1), (17, 4, 4, 2)],
)
def test_steps(num_samples: int, batch_size: int, world_size: int, expected: int) -> None:
    steps = count_steps(num_samples, batch_size=batch_size, world_size=world_size)
    assert steps == expected


@pytest.mark.parametrize(("num_samples", "batch_size", "world_size"), [(10, 4, 1), (23, 3, 2)])
def test_every_sample_comes_and_batches_are_full(
    num_samples: int, batch_size: int, world_size: int
) -> None:
    shards = [
        epoch_order(
            num_samples, batch_size=batch_size, shard=Shard(rank, world_size), seed=1, epoch=0
        )
        for rank in range(world_size)
    ]
    counts = torch.bincount(torch.cat(shards).flatten(), minlength=num_samples)
    assert counts.min() == 1
    assert counts.max() <= 2
    assert all(shard.shape[1] == batch_size for shard in shards)


@pytest.mark.parametrize("num_samples", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_pictures_of_a_step_do_not_depend_on_the_number_of_processes(
    num_samples: int, world_size: int
) -> None:
    def batches(world_size: int) -> list[list[int]]:
        shards = [
            epoch_order(
                num_samples,
                batch_size=16 // world_size,
                shard=Shard(rank, world_size),
                seed=3,
                epoch=2,
            )
            for rank in range(world_size)
        ]
        return torch.cat(shards, dim=1).tolist()

    assert batches(world_size) == batches(1)


def test_orders_differ_by_epoch_and_seed_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        shard = Shard(0, 1)
        indices = epoch_order(50, batch_size=10, shard=shard, seed=seed, epoch=epoch)
        return indices.flatten().tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 1)


def test_generators_depend_on_every_part() -> None:
    drawn = {torch.rand(1, generator=seeded(*parts)).item() for parts in ((1,), (1, 0), (0, 1))}
    assert len(drawn) == 3


def test_batches_hold_the_asked_samples() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 48, 3), np.uint8)
    boxes = (
        np.zeros((0, 4), np.float32),
        np.ones((2, 4), np.float32),
        np.ones((1, 4), np.float32),
    )
    samples = Samples(("a", "b", "c"), images, boxes, np.array([[48, 32]] * 3))
    batch = Feed(samples, device=torch.device("cpu")).batch(torch.tensor([2, 0, 1]))
    assert batch.images[:, 0, 0, 0].tolist() == [2, 0, 1]
    assert batch.is_box.sum(dim=1).tolist() == [1, 0, 2]
    assert batch.boxes.shape == (3, 2, 4)


def test_pictures_go_to_the_device_and_boxes_stay() -> None:
    samples = Samples(
        ("a",), np.zeros((1, 32, 48, 3), np.uint8), (np.ones((2, 4), np.float32),), np.ones((1, 2))
    )
    batch = Feed(samples, device=torch.device("meta")).batch(torch.tensor([0]))
    assert [values.device.type for values in batch] == ["meta", "cpu", "cpu"]
