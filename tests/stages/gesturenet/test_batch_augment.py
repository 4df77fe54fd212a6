"""What a whole batch is changed to at once is what single crops are changed to."""

import cv2
import numpy as np
import pytest
import torch

from deploy.core.roi import RoiRule
from stages.gesturenet.augment import NO_CHANGE, Change, apply_change, draw_changes
from stages.gesturenet.backgrounds import Behind, change_background, draw_pictures
from stages.gesturenet.batch_augment import Scene, apply_changes, set_behind
from stages.gesturenet.config import GestureAugmentConfig
from tests.stages.gesturenet.samples import striped_crops

SIDE, RESOLUTION, NUM = 96, 64, 24
RULE = RoiRule(mode="ratio", ratio=1.4, square=True, border="pad")
OFF = vars(NO_CHANGE)


def soft_images(num: int = NUM) -> np.ndarray:
    """Crops (num, SIDE, SIDE, 3) with shapes but without the noise that no two ways resample
    alike."""
    images = striped_crops(num // 6, size_px=SIDE).images
    return np.stack([cv2.GaussianBlur(image, (0, 0), 2.0) for image in images])


def to_planes(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def to_images(pictures: torch.Tensor) -> np.ndarray:
    """RGB planes in [0, 1] as BGR pictures in [0, 255]."""
    return np.asarray(255 * pictures.flip(1).permute(0, 2, 3, 1).numpy())


def changes_of(**keys: object) -> list[Change]:
    config = GestureAugmentConfig(**{**OFF, **keys})  # type: ignore[arg-type]
    boxes = striped_crops(NUM // 6, size_px=SIDE).boxes
    return draw_changes(boxes, np.random.default_rng(3), config, RULE, size_px=RESOLUTION)


# Mean difference in grey levels: nothing is rounded between changes here, and JPEG is imitated.
@pytest.mark.parametrize(
    ("keys", "tolerance"),
    [
        ({}, 0.5),
        ({"rotate_max_deg": 60.0, "flip_probability": 0.5, "box_scale_frac": 0.2}, 0.5),
        ({"lowres_probability": 1.0, "lowres_min_px": 12}, 0.6),
        ({"gain_max": 0.5, "contrast_max": 0.5, "saturation_max": 0.9}, 0.8),
        ({"gamma_max": 0.5, "grey_probability": 0.5}, 0.8),
        ({"shade_probability": 1.0, "shade_max": 1.0}, 0.8),
        ({"blur_probability": 0.7, "blur_max_sigma": 4.0}, 0.8),
        ({"erase_probability": 1.0, "erase_max_frac": 0.6}, 0.5),
        ({"jpeg_probability": 1.0, "jpeg_min_quality": 60}, 1.2),
        ({"jpeg_probability": 1.0, "jpeg_min_quality": 10}, 2.5),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_batch_is_changed_as_single_crops_are(keys: dict, tolerance: float) -> None:
    images, changes = soft_images(), changes_of(**keys)
    expected = [
        apply_change(image, one, size_px=RESOLUTION)
        for image, one in zip(images, changes, strict=True)
    ]
    found = to_images(apply_changes(to_planes(images), changes, size_px=RESOLUTION))
    assert found.shape == (NUM, RESOLUTION, RESOLUTION, 3)
    difference = np.abs(found - np.stack(expected)).mean(axis=(1, 2, 3))
    assert difference.max() < tolerance


def test_noise_is_as_strong_and_the_same_for_the_same_changes() -> None:
    images = np.full((NUM, SIDE, SIDE, 3), 128, np.uint8)
    changes = changes_of(noise_probability=1.0, noise_max=0.2)
    first, second = (apply_changes(to_planes(images), changes, size_px=64) for _ in range(2))
    assert torch.equal(first, second)
    spread = (to_images(first) - 128).std(axis=(1, 2, 3))
    expected = np.array([round(one.noise) for one in changes]) / np.sqrt(3)
    assert spread == pytest.approx(expected, rel=0.05, abs=0.01)


@pytest.mark.parametrize(
    "how",
    [
        Behind(0, False, 1.0, False, 0.0),
        Behind(1, True, 0.8, False, 0.0),
        Behind(1, False, 1.2, True, 0.0),
        Behind(0, True, 1.0, False, 3.0),
    ],
    ids=["plain", "mirrored", "flat", "blurred"],
)
def test_pictures_are_set_behind_as_for_single_crops(how: Behind) -> None:
    images, pictures = soft_images(6), draw_pictures(2, size_px=SIDE, seed=5)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (40, 50), 25, 255, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 2.0)
    expected = np.stack([change_background(image, mask, pictures, how) for image in images])
    scene = Scene(torch.from_numpy(pictures), torch.from_numpy(mask[None]))
    found = set_behind(to_planes(images), scene, [0] * 6, [how] * 6).permute(0, 2, 3, 1).numpy()
    assert np.abs(found - expected).mean() < 1.0
