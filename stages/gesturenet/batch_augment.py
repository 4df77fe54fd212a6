"""The changes of augment.py for a whole batch at once, in PyTorch, so that a GPU makes them.

The same `Change`s give the same pictures as `apply_change` but for rounding (this rounds nothing
in between) and the noise, which comes from a generator of the device. JPEG is imitated: the block
transform and the tables of ITU-T T.81 (annex K), colour at half the resolution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from stages.gesturenet.augment import Change
from stages.gesturenet.backgrounds import Behind
from stages.gesturenet.finish import Finish

LUMA_BGR = (0.114, 0.587, 0.299)
BLOCK = 8
# ITU-T T.81, tables K.1 and K.2, for quality 50.
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
COLOUR_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *4 * ((99, 99, 99, 99, 99, 99, 99, 99),),
)


class Scene(NamedTuple):
    """Pictures that are set behind hands: pictures (K, S, S, 3) uint8 BGR, masks (M, S, S) uint8
    alpha, both on the device."""

    pictures: torch.Tensor
    masks: torch.Tensor


def apply_changes(
    images: torch.Tensor, changes: Sequence[Change], *, size_px: int
) -> torch.Tensor:
    """Return changed crops (B, 3, R, R) float32 RGB in [0, 1], R = size_px.

    images: (B, 3, S, S) float32 BGR in [0, 255], on the device where the work is done.
    """
    pictures = _resample(images, changes, size_px=size_px)
    pictures = _recolour(pictures, np.stack([one.colour for one in changes]))
    pictures = apply_finishes(pictures, [one.finish for one in changes])
    pictures = _add_noise(pictures, changes)
    pictures = _erase(pictures, changes)
    return pictures.flip(1) / 255


def set_behind(
    images: torch.Tensor, scene: Scene, masks: Sequence[int], hows: Sequence[Behind]
) -> torch.Tensor:
    """Set pictures of a scene behind hands: (B, 3, S, S) float32 BGR.

    images: the same; masks: which of scene.masks cuts each of them out; hows: (B,).
    """
    device = images.device
    chosen = _index([how.picture for how in hows], device)
    behind = _to_planes(scene.pictures[chosen])
    is_mirrored = _column([how.is_mirrored for how in hows], device) > 0
    behind = torch.where(is_mirrored, behind.flip(3), behind)
    behind = behind * _column([how.gain for how in hows], device)
    is_flat = _column([how.is_flat for how in hows], device) > 0
    behind = torch.where(is_flat, behind.mean(dim=(2, 3), keepdim=True), behind)
    behind = _blur(behind, np.array([how.blur_sigma for how in hows]))
    alpha = scene.masks[_index(masks, device)][:, None].float() / 255  # (B, 1, S, S)
    return (alpha * images + (1 - alpha) * behind).clamp(0, 255)


def apply_finishes(images: torch.Tensor, finishes: Sequence[Finish]) -> torch.Tensor:
    """Return the finished pictures (B, 3, H, W) float32 BGR in [0, 255]."""
    device = images.device
    if any(one.is_grey for one in finishes):
        is_grey = _column([one.is_grey for one in finishes], device) > 0
        images = torch.where(is_grey, _luma(images).expand_as(images), images)
    if any(one.gamma != 1.0 for one in finishes):
        gamma = _column([one.gamma for one in finishes], device)
        images = 255 * (images / 255).clamp(min=0) ** gamma
    if any(any(one.shade) for one in finishes):
        images = _shade(images, np.array([one.shade for one in finishes]))
    images = _blur(images, np.array([one.blur_sigma for one in finishes]))
    return _compress(images, np.array([one.jpeg_quality for one in finishes]))


def _index(values: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int64).to(device)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    """Return (B, 1, 1, 1) float32."""
    return torch.tensor(list(values), dtype=torch.float32).to(device)[:, None, None, None]


def _to_planes(pictures: torch.Tensor) -> torch.Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32."""
    return pictures.permute(0, 3, 1, 2).float()


def _luma(images: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(LUMA_BGR, device=images.device)[None, :, None, None]
    return (images * weights).sum(dim=1, keepdim=True)


def _resample(images: torch.Tensor, changes: Sequence[Change], *, size_px: int) -> torch.Tensor:
    """Warp each crop to size_px, or to fewer pixels and from there to size_px."""
    shrink = np.array([one.lowres_px / size_px for one in changes])
    matrices = np.stack([one.matrix for one in changes]) * shrink[:, None, None]
    matrices[:, :, 2] += (shrink / 2 - 0.5)[:, None] * (shrink < 1)[:, None]
    warped = _warp(images, matrices, size_px=size_px)
    small = np.flatnonzero(shrink < 1)
    if len(small):
        # The corner of lowres_px x lowres_px is the small picture: enlarge that.
        scale = torch.from_numpy(shrink[small]).float().to(images.device)[:, None]  # (M, 1)
        centres = torch.arange(size_px, device=images.device) + 0.5
        at = (centres[None] * scale - 0.5).clamp(min=0)  # (M, R) pixels
        at = torch.minimum(at, scale * size_px - 1)
        grid = torch.stack(
            [at[:, None, :].expand(-1, size_px, -1), at[:, :, None].expand(-1, -1, size_px)], 3
        )
        where = _index(small.tolist(), images.device)
        large = functional.grid_sample(
            warped[where], 2 * grid / (size_px - 1) - 1, align_corners=True
        )
        warped = warped.index_copy(0, where, large)
    return warped


def _warp(images: torch.Tensor, matrices: np.ndarray, *, size_px: int) -> torch.Tensor:
    """Resample bilinearly by forward maps (B, 2, 3), mirrored at the border as warp_crop does."""
    side = images.shape[2]
    back = np.linalg.inv(matrices[:, :, :2])  # (B, 2, 2)
    offset = -(back @ matrices[:, :, 2:])  # (B, 2, 1)
    both = torch.from_numpy(np.concatenate([back, offset], axis=2)).float().to(images.device)
    pixels = torch.arange(size_px, device=images.device, dtype=torch.float32)
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    points = torch.stack([x.ravel(), y.ravel(), torch.ones_like(x).ravel()])  # (3, R * R)
    at = (both @ points).transpose(1, 2).reshape(len(images), size_px, size_px, 2)
    return functional.grid_sample(
        images, 2 * at / (side - 1) - 1, padding_mode="reflection", align_corners=True
    )


def _recolour(images: torch.Tensor, colour: np.ndarray) -> torch.Tensor:
    """Apply (B, 3, 4) maps of pixels."""
    maps = torch.from_numpy(colour).float().to(images.device)
    flat = maps[:, :, :3] @ images.flatten(2) + maps[:, :, 3:]
    return flat.reshape(images.shape).clamp(0, 255)


def _shade(images: torch.Tensor, shade: np.ndarray) -> torch.Tensor:
    slopes = torch.from_numpy(shade).float().to(images.device)  # (B, 2)
    x = torch.linspace(-1, 1, images.shape[3], device=images.device)[None, None, :]
    y = torch.linspace(-1, 1, images.shape[2], device=images.device)[None, :, None]
    gain = 1 + slopes[:, 0, None, None] * x + slopes[:, 1, None, None] * y  # (B, H, W)
    return (images * gain[:, None]).clamp(0, 255)


def _blur(images: torch.Tensor, sigmas: np.ndarray) -> torch.Tensor:
    """Blur those with a sigma above zero, each by its own, mirrored at the border."""
    chosen = np.flatnonzero(sigmas > 0)
    if not len(chosen):
        return images
    where = _index(chosen.tolist(), images.device)
    part = images[where]
    radius = min(int(np.ceil(3 * sigmas.max())), images.shape[2] - 1)
    steps = np.arange(-radius, radius + 1)
    kernels = np.exp(-((steps / sigmas[chosen, None]) ** 2) / 2)  # (M, 2 * radius + 1)
    kernels = np.repeat(kernels / kernels.sum(axis=1, keepdims=True), 3, axis=0)
    weights = torch.from_numpy(kernels).float().to(images.device)[:, None, None]
    flat = part.reshape(1, -1, *part.shape[2:])  # (1, M * 3, H, W)
    padded = functional.pad(flat, (radius, radius, radius, radius), mode="reflect")
    blurred = functional.conv2d(padded, weights, groups=len(weights))
    blurred = functional.conv2d(blurred, weights.transpose(2, 3), groups=len(weights))
    return images.index_copy(0, where, blurred.reshape(part.shape))


def _compress(images: torch.Tensor, qualities: np.ndarray) -> torch.Tensor:
    """Lose what JPEG loses at these qualities (B,), 0 = nothing; sides are multiples of 16."""
    chosen = np.flatnonzero(qualities > 0)
    if not len(chosen):
        return images
    where = _index(chosen.tolist(), images.device)
    part = images[where]
    luma = _luma(part)
    blue, red = (part[:, :1] - luma) / 1.772, (part[:, 2:] - luma) / 1.402
    colour = functional.avg_pool2d(torch.cat([blue, red], dim=1), 2)
    luma = _quantize_blocks(luma - 128, qualities[chosen], LUMA_TABLE) + 128
    colour = _quantize_blocks(colour, qualities[chosen], COLOUR_TABLE)
    colour = functional.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)
    blue, red = luma + 1.772 * colour[:, :1], luma + 1.402 * colour[:, 1:]
    green = (luma - LUMA_BGR[0] * blue - LUMA_BGR[2] * red) / LUMA_BGR[1]
    return images.index_copy(0, where, torch.cat([blue, green, red], dim=1).clamp(0, 255))


def _quantize_blocks(
    planes: torch.Tensor, qualities: np.ndarray, table: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Round the cosine transform of each 8x8 block of planes (M, C, H, W) to a table's steps."""
    num, channels, height, width = planes.shape
    scale = np.where(qualities < 50, 50 / qualities, 2 - qualities / 50)  # libjpeg's
    steps = np.clip(np.round(np.array(table) * scale[:, None, None]), 1, 255)
    step = torch.from_numpy(steps).float().to(planes.device)[:, None, None, None]
    cosine = _cosine_matrix().to(planes.device)
    split = (num, channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    blocks = planes.reshape(split).transpose(3, 4)  # (M, C, h, w, 8, 8)
    rounded = (cosine @ blocks @ cosine.T / step).round() * step
    return (cosine.T @ rounded @ cosine).transpose(3, 4).reshape(planes.shape)


def _cosine_matrix() -> torch.Tensor:
    """The orthonormal cosine transform (DCT-II) of 8 values."""
    row, column = np.meshgrid(np.arange(BLOCK), np.arange(BLOCK), indexing="ij")
    matrix = np.cos(np.pi * (2 * column + 1) * row / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    matrix[0] /= np.sqrt(2)
    return torch.from_numpy(matrix).float()


def _add_noise(images: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
    chosen = [index for index, one in enumerate(changes) if round(one.noise) > 0]
    if not chosen:
        return images
    where = _index(chosen, images.device)
    generator = torch.Generator(images.device).manual_seed(int(changes[chosen[0]].noise_seed))
    part = images[where]
    unit = torch.rand(part.shape, generator=generator, device=images.device) * 2 - 1
    most = _column([round(changes[index].noise) for index in chosen], images.device)
    return images.index_copy(0, where, (part + unit * most).clamp(0, 255))


def _erase(images: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
    edges = np.stack([one.erase_xyxy for one in changes])  # (B, 4)
    if not edges.any():
        return images
    edge = torch.from_numpy(edges).to(images.device)[:, :, None, None]  # (B, 4, 1, 1)
    x = torch.arange(images.shape[3], device=images.device)[None, None, :]
    y = torch.arange(images.shape[2], device=images.device)[None, :, None]
    inside = (x >= edge[:, 0]) & (x < edge[:, 2]) & (y >= edge[:, 1]) & (y < edge[:, 3])
    colours = np.stack([one.erase_bgr for one in changes])
    colour = torch.from_numpy(colours).float().to(images.device)[:, :, None, None]
    return torch.where(inside[:, None], colour, images)
