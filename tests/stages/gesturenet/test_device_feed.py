"""Batches made on the device have what those of the CPU have, in the same order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.config import GestureAugmentConfig, GestureConfig
from stages.gesturenet.crops import Crops
from stages.gesturenet.device_feed import device_batches, prepare_device, run_ahead
from stages.gesturenet.feed import Batch, choose_backgrounds, training_batches
from tests.stages.gesturenet.samples import striped_crops

RULE = RoiRule()
CONFIG = GestureConfig(
    batch_size=8,
    resolutions=[64],
    augment=GestureAugmentConfig(
        noise_probability=0.0, background_probability=0.5, turned_probability=0.5
    ),
)


def walled_crops() -> Crops:
    """Crops of one's own before a wall of one colour."""
    crops = striped_crops(3, size_px=96)
    images = np.full_like(crops.images, 200)
    images[:, 30:66, 30:66] = (60, 90, 190)
    images = np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in images])
    joints = np.random.default_rng(0).uniform(20, 70, (18, 21, 2)).astype(np.float32)
    names = tuple(f"anna/{name}" for name in crops.names)
    return crops._replace(images=images, joints=joints, names=names)


def batches_of(crops: Crops, device: str = "cpu") -> tuple[list[Batch], list[Batch]]:
    """An epoch's batches of the CPU, and the same by the device's way."""
    backgrounds = choose_backgrounds(crops, CONFIG)
    assert backgrounds is not None
    assert len(backgrounds.masks) == len(crops.names)
    with ThreadPoolExecutor(2) as pool:
        expected = list(
            training_batches(crops, CONFIG, 1, rule=RULE, pool=pool, backgrounds=backgrounds)
        )
    resident = prepare_device(crops, backgrounds, torch.device(device))
    return expected, list(device_batches(resident, CONFIG, 1, rule=RULE))


def test_both_feeds_give_the_same_batches() -> None:
    expected, found = batches_of(walled_crops())
    assert len(expected) == len(found) == 3
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.class_id, other.class_id)
        assert torch.equal(one.joints, other.joints)
        assert one.images.shape == other.images.shape
        assert float((one.images - other.images).abs().mean()) < 0.005


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_batches() -> None:
    expected, found = batches_of(walled_crops(), device="cuda")
    for one, other in zip(expected, found, strict=True):
        assert other.images.device.type == "cuda"
        assert torch.equal(one.class_id, other.class_id.cpu())
        assert torch.equal(one.joints, other.joints.cpu())
        assert float((one.images - other.images.cpu()).abs().mean()) < 0.005


def test_items_come_in_order_and_an_error_comes_through() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise RuntimeError("broken")

    seen = []

    def take() -> None:
        seen.extend(item for item in map(note, run_ahead(items())))

    def note(item: int) -> int:
        noted.append(item)
        return item

    noted: list[int] = []
    with pytest.raises(RuntimeError, match="broken"):
        take()
    assert noted == list(range(5))
    assert list(run_ahead(iter(range(4)))) == [0, 1, 2, 3]
    assert list(run_ahead(iter(()))) == []
