"""Geometry of training pictures and boxes: affine matrices, warps, clipping.

Coordinates are continuous: pixel i spans [i, i + 1]. Matrices map old to new pixel coordinates as
columns [x y 1].
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn.functional import grid_sample


class Batch(NamedTuple):
    """images (B, H, W, 3) uint8 RGB, on any device; on the CPU boxes (B, M, 4) float32 xyxy,
    pixels, and is_box (B, M) bool."""

    images: torch.Tensor
    boxes: torch.Tensor
    is_box: torch.Tensor


def affine_matrices(
    *,
    scale_x: torch.Tensor | None = None,
    scale_y: torch.Tensor | None = None,
    move_x: torch.Tensor | None = None,
    move_y: torch.Tensor | None = None,
) -> torch.Tensor:
    """Build (B, 3, 3) matrices that scale and then move; what is left out stays as it is."""
    given = [value for value in (scale_x, scale_y, move_x, move_y) if value is not None]
    matrices = torch.eye(3).expand(len(given[0]), 3, 3).clone()
    for row, column, value in ((0, 0, scale_x), (1, 1, scale_y), (0, 2, move_x), (1, 2, move_y)):
        if value is not None:
            matrices[:, row, column] = value
    return matrices


def rotation_matrices(angle: torch.Tensor, *, input_wh: tuple[int, int]) -> torch.Tensor:
    """Rotate by angle (B,) radians about the picture's centre: (B, 3, 3)."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    x, y = input_wh[0] / 2.0, input_wh[1] / 2.0
    matrices = affine_matrices(
        scale_x=cos, scale_y=cos, move_x=x - cos * x + sin * y, move_y=y - sin * x - cos * y
    )
    matrices[:, 0, 1], matrices[:, 1, 0] = -sin, sin
    return matrices


def transform_boxes(boxes: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    """Move both corners of boxes (B, M, 4) and take minimum and maximum again, as NVIDIA does.

    Under rotation this box is smaller than the one around all four corners.
    """
    corners = boxes.unflatten(2, (2, 2))  # (B, M, 2, 2)
    moved = corners @ spatial[:, None, :2, :2].transpose(2, 3) + spatial[:, None, None, :2, 2]
    return torch.cat([moved.amin(dim=2), moved.amax(dim=2)], dim=2)


def transform_ellipses(boxes: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    """Move the ellipses inside boxes (B, M, 4) and return the boxes around them.

    The same as transform_boxes without rotation; with it a rounded thing, as a hand is, stays
    framed where two corners would make its box narrower and taller.
    """
    center = (boxes[..., :2] + boxes[..., 2:]) / 2.0
    half = (boxes[..., 2:] - boxes[..., :2]) / 2.0
    linear = spatial[:, None, :2, :2]  # (B, 1, 2, 2)
    moved = (linear @ center[..., None])[..., 0] + spatial[:, None, :2, 2]
    reach = (linear**2 @ half[..., None] ** 2)[..., 0].sqrt()
    return torch.cat([moved - reach, moved + reach], dim=2)


BOX_TRANSFORMS = {"corners": transform_boxes, "ellipse": transform_ellipses}


def clip_batch(batch: Batch, minimum_frac: float) -> Batch:
    """Clip the boxes to the picture and unmark those that lose too much of their area."""
    height, width = batch.images.shape[1:3]
    boxes, is_visible = clip_visible(
        batch.boxes, input_wh=(width, height), minimum_frac=minimum_frac
    )
    return batch._replace(boxes=boxes, is_box=batch.is_box & is_visible)


def clip_visible(
    boxes: torch.Tensor, *, input_wh: tuple[int, int], minimum_frac: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clip boxes (B, M, 4) to the picture; also say which keep at least minimum_frac of their
    area."""
    limit = boxes.new_tensor([*input_wh, *input_wh])
    clipped = torch.minimum(boxes.clamp_min(0.0), limit)
    before, after = _areas(boxes), _areas(clipped)
    return clipped, (after > 0.0) & (after >= minimum_frac * before)


def warp_images(images: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    """Warp images (B, H, W, 3) uint8 bilinearly by old-to-new matrices (B, 3, 3); outside is 0.

    Returns the same shape, uint8 on the CPU (OpenCV, four times faster there) and float32
    elsewhere.
    """
    inverse = torch.linalg.inv(spatial)
    if images.device.type == "cpu":
        return _warp_on_cpu(images, inverse)
    return warp_by_grid(images, inverse)


def warp_by_grid(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Warp by new-to-old matrices (B, 3, 3) on any device; float32 (B, H, W, 3)."""
    height, width = images.shape[1:3]
    # grid_sample works in coordinates from -1 to 1 over the picture.
    to_unit = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1]])
    maps = (to_unit @ inverse).to(images.device, non_blocking=True)
    grid = map_pixels(maps, input_wh=(width, height))
    planes = images.permute(0, 3, 1, 2).float()
    return grid_sample(planes, grid, align_corners=False).permute(0, 2, 3, 1)


def map_pixels(maps: torch.Tensor, *, input_wh: tuple[int, int]) -> torch.Tensor:
    """Apply affine maps (B, K, 3) to the centres of all pixels: (B, H, W, K).

    Without a matrix product, which a GPU may round to 11 bits (TF32): a quarter of a pixel at a
    width of 960.
    """
    width, height = input_wh
    column, line, origin = maps[:, None, None].unbind(4)  # (B, 1, 1, K) each
    x = torch.arange(0.5, width, device=maps.device)
    y = torch.arange(0.5, height, device=maps.device)
    return x[:, None] * column + torch.addcmul(origin, y[:, None, None], line)


def _warp_on_cpu(images: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    # OpenCV counts from pixel centres: its x is x - 0.5 here.
    half = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    matrices = (torch.linalg.inv(half) @ inverse @ half)[:, :2].numpy()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pictures = images.numpy()
    size_wh = (pictures.shape[2], pictures.shape[1])
    warped = np.empty(pictures.shape, np.uint8)
    for index, matrix in enumerate(matrices):
        cv2.warpAffine(pictures[index], matrix, size_wh, dst=warped[index], flags=flags)
    return torch.from_numpy(warped)


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0.0)
    return size[..., 0] * size[..., 1]
