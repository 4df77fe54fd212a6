"""Random changes of a batch of training pictures and their boxes.

The transformations and their order are NVIDIA's (nvidia_tao_tf1 cv/detectnet_v2/dataloader, the
MULTISOURCE loader): one affine warp made of flip, translation, zoom and rotation, with black
outside the picture, then one colour map made of brightness, hue and saturation, and contrast,
then clipping to [0, 1]. Coordinates are continuous: pixel i spans [i, i + 1]. Drawing the random
numbers is apart from applying them; one generator on the CPU decides everything on every device.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch

from stages.detectnet.config import AugmentConfig
from stages.detectnet.mixing import Chances, mix_mosaics, paste_pieces
from stages.detectnet.warp import (
    BOX_TRANSFORMS,
    Batch,
    affine_matrices,
    clip_batch,
    rotation_matrices,
    warp_images,
)

# NVIDIA's hue and saturation basis for pixel rows [r g b] @ M, M = K + s cos(h) A + s sin(h) B.
LUMA = ((0.299, 0.299, 0.299), (0.587, 0.587, 0.587), (0.114, 0.114, 0.114))
COSINE = ((0.701, -0.299, -0.299), (-0.587, 0.413, -0.587), (-0.114, -0.114, 0.886))
SINE = ((0.168, -0.328, 1.25), (0.330, 0.035, -1.05), (-0.497, 0.292, -0.203))


class Draws(NamedTuple):
    """One batch's random numbers: spatial (B, 3, 3), old to new pixel coordinates as columns
    [x y 1]; colour (B, 4, 3) for pixel rows [r g b 1] in [0, 1]."""

    spatial: torch.Tensor
    colour: torch.Tensor


def augment_batch(
    batch: Batch,
    config: AugmentConfig,
    generator: torch.Generator,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return network input (B, 3, H, W) float32 in [0, 1], boxes, and is_box after random changes.

    All that depends on boxes and random numbers alone is computed on the CPU, and what the GPU
    wants of it is sent without waiting, so that it always has work in store.

    generator: on the CPU, in the same state in every process; it advances. Random numbers are
    drawn for the batches of all world_size processes, of which this is number rank, so that a
    picture's changes depend on its place in the whole batch alone; what it is mixed with comes
    from this process's batch. With config.enabled false only the pixels' type changes.
    """
    if not config.enabled:
        return to_input(batch.images), batch.boxes, batch.is_box
    num_images, height, width = batch.images.shape[:3]
    total, own = num_images * world_size, slice(rank * num_images, (rank + 1) * num_images)
    every = draw_changes(config, total, input_wh=(width, height), generator=generator)
    draws = Draws(every.spatial[own], every.colour[own])
    chances = Chances(generator, num_images, rank=rank, world_size=world_size)
    move = BOX_TRANSFORMS[config.rotated_boxes]
    moved = Batch(
        warp_images(batch.images, draws.spatial),
        move(batch.boxes, draws.spatial),
        batch.is_box,
    )
    if config.mosaic_probability > 0.0:
        moved = mix_mosaics(batch, moved, draws.spatial, config, chances)
    if config.clip_boxes:
        moved = clip_batch(moved, config.minimum_visible_frac)
    if config.paste_probability > 0.0:
        for _ in range(config.paste_tries):
            moved = paste_pieces(batch, moved, config, chances)
    return change_colours(moved.images, draws.colour), moved.boxes, moved.is_box


def draw_changes(
    config: AugmentConfig,
    num_images: int,
    *,
    input_wh: tuple[int, int],
    generator: torch.Generator,
) -> Draws:
    """Draw the changes of each picture independently, on the CPU."""
    spatial = draw_spatial(config, num_images, input_wh=input_wh, generator=generator)
    return Draws(spatial, draw_colour(config, num_images, generator=generator))


def draw_spatial(
    config: AugmentConfig,
    num_images: int,
    *,
    input_wh: tuple[int, int],
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw flip, translation, zoom and rotation, and compose them in this order: (B, 3, 3)."""
    width, height = input_wh

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(num_images, generator=generator)

    def whole(limit: int) -> torch.Tensor:
        return torch.randint(-limit, limit + 1, (num_images,), generator=generator).float()

    flip = torch.where(uniform(0.0, 1.0) < config.hflip_probability, -1.0, 1.0)
    flips = affine_matrices(scale_x=flip, move_x=torch.where(flip < 0, float(width), 0.0))
    moves = affine_matrices(
        move_x=whole(config.translate_max_x), move_y=whole(config.translate_max_y)
    )
    shrink = 1.0 / uniform(config.zoom_min, config.zoom_max)
    scale_x, scale_y = shrink, shrink
    if config.stretch_max > 0.0:
        ratio = (1.0 + config.stretch_max) ** uniform(-0.5, 0.5)
        scale_x, scale_y = shrink * ratio, shrink / ratio
    zooms = affine_matrices(
        scale_x=scale_x,
        scale_y=scale_y,
        move_x=uniform(0.0, 1.0) * (width - width * scale_x),
        move_y=uniform(0.0, 1.0) * (height - height * scale_y),
    )
    is_rotated = uniform(0.0, 1.0) < config.rotate_probability
    angle = uniform(-config.rotate_max_rad, config.rotate_max_rad) * is_rotated
    return rotation_matrices(angle, input_wh=input_wh) @ zooms @ moves @ flips


def draw_colour(
    config: AugmentConfig, num_images: int, *, generator: torch.Generator
) -> torch.Tensor:
    """Draw brightness, hue, saturation and contrast, composed in this order: (B, 4, 3)."""

    def truncated_normal(limit: float) -> torch.Tensor:
        """A normal of standard deviation limit / 2, cut at +- limit, as NVIDIA draws them."""
        values = torch.zeros(num_images)
        if limit > 0.0:
            torch.nn.init.trunc_normal_(values, 0.0, limit / 2, -limit, limit, generator)
        return values[:, None, None]  # (B, 1, 1)

    def uniform() -> torch.Tensor:
        return torch.rand(num_images, generator=generator)[:, None, None]

    hue = torch.deg2rad(truncated_normal(config.hue_rotation_max))
    saturation = 1.0 + (2.0 * uniform() - 1.0) * config.saturation_shift_max
    saturation = torch.where(uniform() < config.gray_probability, 0.0, saturation)
    contrast = truncated_normal(config.contrast_scale_max)
    brightness = truncated_normal(config.brightness_scale_max)
    linear = hue_saturation_matrices(hue, saturation)  # (B, 3, 3)
    shift = brightness * linear.sum(dim=1, keepdim=True)  # (B, 1, 3)
    offset = (1.0 + contrast) * shift - contrast * config.contrast_center
    return torch.cat([(1.0 + contrast) * linear, offset], dim=1)


def hue_saturation_matrices(hue_rad: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """Build (B, 3, 3) for pixel rows [r g b]; hue_rad and saturation are (B, 1, 1)."""
    luma, cosine, sine = torch.tensor([LUMA, COSINE, SINE])
    return luma + saturation * (torch.cos(hue_rad) * cosine + torch.sin(hue_rad) * sine)


def change_colours(images: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Map pixels (B, H, W, 3) in [0, 255] by colour (B, 4, 3), on the CPU; clip them to [0, 1].

    Returns (B, 3, H, W) float32 in channels-last memory order; on the CPU, where OpenCV is three
    times faster than a matrix product, values are rounded to whole 1 / 255.
    """
    if images.device.type == "cpu":
        return to_input(_change_colours_on_cpu(images, colour))
    num_images, height, width = images.shape[:3]
    pixels = images.reshape(num_images, height * width, 3).float()
    rows = torch.cat([colour[:, :3] / 255.0, colour[:, 3:]], dim=1)
    rows = rows.to(images.device, non_blocking=True)
    changed = torch.baddbmm(rows[:, 3:], pixels, rows[:, :3]).clamp_(0.0, 1.0)
    return changed.view(num_images, height, width, 3).permute(0, 3, 1, 2)


def to_input(images: torch.Tensor) -> torch.Tensor:
    """Turn images (B, H, W, 3) uint8 into network input (B, 3, H, W) float32, channels last."""
    return images.float().mul_(1.0 / 255.0).permute(0, 3, 1, 2)


def _change_colours_on_cpu(images: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([colour[:, :3], 255.0 * colour[:, 3:]], dim=1)
    matrices = rows.transpose(1, 2).contiguous().numpy()  # (B, 3, 4)
    pictures = images.numpy()
    changed = np.empty(pictures.shape, np.uint8)
    for picture, matrix, target in zip(pictures, matrices, changed, strict=True):
        cv2.transform(picture, matrix, dst=target)
    return torch.from_numpy(changed)
