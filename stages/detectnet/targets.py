"""Draw boxes as the coverage and box maps that the network learns.

A vectorised form of NVIDIA's rasteriser (nvidia_tao_tf1
cv/detectnet_v2/rasterizers/bbox_rasterizer.py and core/lib/rasterize_bbox/rasterize_bbox.h):
every box is an ellipse of coverage inside a larger ellipse, its dead zone, which erases what
other boxes drew; boxes are drawn by ascending bottom edge.
"""

import math
from typing import NamedTuple

import torch

from deploy.core.grid import Grid
from stages.detectnet.config import TargetConfig

STRIDE, SCALE, OFFSET = Grid()
SAMPLES = 4  # supersamples per cell and axis
MINIMUM_RADIUS = 0.1  # grid cells, before bbox_min_radius


class Targets(NamedTuple):
    """coverage (B, 1, h, w) in [0, 1]; bbox (B, 4, h, w) left, top, right, bottom / SCALE;
    bbox_weight (B, 1, h, w) = coverage / ellipse area in cells (NVIDIA's cov_norm)."""

    coverage: torch.Tensor
    bbox: torch.Tensor
    bbox_weight: torch.Tensor


class Ellipses(NamedTuple):
    """Per box, in grid cells: centre, coverage radii, dead-zone radii, all (B, M, 2) in x, y
    order; inverse_area (B, M)."""

    center: torch.Tensor
    radius: torch.Tensor
    deadzone: torch.Tensor
    inverse_area: torch.Tensor


def rasterize_boxes(
    boxes: torch.Tensor,
    is_box: torch.Tensor,
    config: TargetConfig,
    *,
    input_wh: tuple[int, int],
    device: torch.device | None = None,
) -> Targets:
    """Rasterise a batch of boxes of one class.

    boxes: (B, M, 4) float32 xyxy in network-input pixels, padded to M per picture; is_box: (B, M)
    bool, False = padding. Boxes may reach outside the picture. Where nothing is drawn all maps are
    0. Boxes with equal bottom edges are drawn in the given order. device: where the maps are made;
    None = where the boxes are.
    """
    grid_wh = (input_wh[0] // STRIDE, input_wh[1] // STRIDE)
    boxes, is_box = _sort_by_bottom(boxes, is_box)
    ellipses = fit_ellipses(boxes / STRIDE, config)
    # Nothing is inside an ellipse infinitely far away.
    center = torch.where(is_box[..., None], ellipses.center, math.inf)
    area = ellipses.inverse_area[..., None]
    numbers = torch.cat([boxes, area, center, ellipses.radius, ellipses.deadzone], dim=2)
    numbers = numbers.to(device or boxes.device, non_blocking=True)  # (B, M, 11), in one copy
    center, radii = numbers[..., 5:7], numbers[..., 7:].unflatten(2, (2, 2))
    coverage, deadzone = _inside_fraction(center, radii, grid_wh).unbind(2)  # (B, M, h, w) twice
    best, owner = _paint(coverage, deadzone)  # (B, h, w) twice
    is_covered = best > 0
    picked = _pick(numbers[..., :5], owner)
    bbox = _encode(picked[:, :4]) * is_covered[:, None]  # (B, 4, h, w)
    return Targets(best[:, None], bbox, (best * picked[:, 4])[:, None])


def fit_ellipses(boxes: torch.Tensor, config: TargetConfig) -> Ellipses:
    """Compute the two ellipses of each box; boxes (B, M, 4) in grid cells."""
    low, high = boxes[..., :2], boxes[..., 2:]
    position = boxes.new_tensor([config.cov_center_x, config.cov_center_y])
    factor = boxes.new_tensor([config.cov_radius_x, config.cov_radius_y])
    center = low + position * (high - low)
    half = torch.where(position < 0.5, center - low, high - center)
    radius = (factor * half).clamp_min(MINIMUM_RADIUS)
    radius = _enforce_minimum(radius, config.bbox_min_radius)
    share = config.deadzone_radius
    deadzone = torch.maximum((1.0 - share) * radius + share * half, radius)
    area = 4.0 * radius[..., 0] * radius[..., 1]
    return Ellipses(center, radius, deadzone, 1.0 / area.clamp_min(1.0))


def _enforce_minimum(radius: torch.Tensor, minimum: float) -> torch.Tensor:
    """Grow ellipses below the minimum, x first and then y, each time keeping the aspect."""
    x, y = radius.unbind(-1)
    y = torch.where(x < minimum, minimum * y / x, y)
    x = x.clamp_min(minimum)
    x = torch.where(y < minimum, minimum * x / y, x)
    return torch.stack([x, y.clamp_min(minimum)], dim=-1)


def _sort_by_bottom(
    boxes: torch.Tensor, is_box: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.argsort(boxes[..., 3], dim=1, stable=True)  # (B, M)
    return torch.take_along_dim(boxes, order[..., None], 1), torch.take_along_dim(is_box, order, 1)


def _inside_fraction(
    center: torch.Tensor, radii: torch.Tensor, grid_wh: tuple[int, int]
) -> torch.Tensor:
    """Return the fraction of each cell's 4 x 4 samples inside ellipses of one centre.

    center: (B, M, 2); radii: (B, M, R, 2). Returns (B, M, R, h, w).
    """
    width, height = grid_wh
    x = torch.arange(0.5 / SAMPLES, width, 1.0 / SAMPLES, device=center.device)
    y = torch.arange(0.5 / SAMPLES, height, 1.0 / SAMPLES, device=center.device)
    dx = ((x - center[..., None, 0:1]) / radii[..., 0:1]) ** 2  # (B, M, R, 4w)
    dy = ((y - center[..., None, 1:2]) / radii[..., 1:2]) ** 2  # (B, M, R, 4h)
    inside = (dy[..., :, None] + dx[..., None, :]) < 1.0  # (B, M, R, 4h, 4w)
    cells = inside.unflatten(4, (width, SAMPLES)).unflatten(3, (height, SAMPLES))
    return cells.float().mean(dim=(4, 6))


def _paint(coverage: torch.Tensor, deadzone: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw box after box; returns the coverage left in each cell and the index of its box.

    The dead zone contains the coverage ellipse, so a box changes a cell exactly where its dead
    zone is positive and not below what stands there: it then erases it and writes its coverage.
    Where a dead zone is 0 and nothing stands, the box writes nothing, but becomes the owner: that
    of a cell without coverage means nothing.
    """
    best = coverage[:, 0]
    owner = torch.zeros_like(best, dtype=torch.long)
    for index in range(1, coverage.shape[1]):
        is_drawn = deadzone[:, index] >= best
        best = torch.where(is_drawn, coverage[:, index], best)
        owner.masked_fill_(is_drawn, index)
    return best, owner


def _pick(values: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Gather values (B, M, K) by owner (B, h, w) into maps (B, K, h, w)."""
    flat = owner.flatten(1)[:, :, None].expand(-1, -1, values.shape[2])  # (B, h * w, K)
    picked = torch.gather(values, 1, flat)
    return picked.transpose(1, 2).unflatten(2, owner.shape[1:])


def _encode(boxes: torch.Tensor) -> torch.Tensor:
    """Turn box maps (B, 4, h, w) in pixels into distances from each cell's corner / SCALE."""
    height, width = boxes.shape[2:]
    x = torch.arange(OFFSET, width * STRIDE, STRIDE, device=boxes.device, dtype=boxes.dtype)
    y = torch.arange(OFFSET, height * STRIDE, STRIDE, device=boxes.device, dtype=boxes.dtype)
    left, top = x - boxes[:, 0], y[:, None] - boxes[:, 1]
    right, bottom = boxes[:, 2] - x, boxes[:, 3] - y[:, None]
    return torch.stack([left, top, right, bottom], dim=1) / SCALE
