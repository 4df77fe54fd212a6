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
from torch.nn.functional import affine_grid, grid_sample

from stages.detectnet.config import AugmentConfig

# NVIDIA's hue and saturation basis for pixel rows [r g b] @ M, M = K + s cos(h) A + s sin(h) B.
LUMA = ((0.299, 0.299, 0.299), (0.587, 0.587, 0.587), (0.114, 0.114, 0.114))
COSINE = ((0.701, -0.299, -0.299), (-0.587, 0.413, -0.587), (-0.114, -0.114, 0.886))
SINE = ((0.168, -0.328, 1.25), (0.330, 0.035, -1.05), (-0.497, 0.292, -0.203))


class Batch(NamedTuple):
    """images (B, H, W, 3) uint8 RGB; boxes (B, M, 4) float32 xyxy, pixels; is_box (B, M) bool."""

    images: torch.Tensor
    boxes: torch.Tensor
    is_box: torch.Tensor


class Draws(NamedTuple):
    """One batch's random numbers: spatial (B, 3, 3), old to new pixel coordinates as columns
    [x y 1]; colour (B, 4, 3) for pixel rows [r g b 1] in [0, 1]."""

    spatial: torch.Tensor
    colour: torch.Tensor


def augment_batch(
    batch: Batch, config: AugmentConfig, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return network input (B, 3, H, W) float32 in [0, 1], boxes, and is_box after random changes.

    generator: on the CPU; it advances. With config.enabled false only the pixels' type changes.
    """
    if not config.enabled:
        return to_input(batch.images), batch.boxes, batch.is_box
    num_images, height, width = batch.images.shape[:3]
    draws = draw_changes(config, num_images, input_wh=(width, height), generator=generator)
    device = batch.images.device
    boxes = transform_boxes(batch.boxes, draws.spatial.to(device))
    is_box = batch.is_box
    if config.clip_boxes:
        boxes, is_visible = clip_visible(
            boxes, input_wh=(width, height), minimum_frac=config.minimum_visible_frac
        )
        is_box = is_box & is_visible
    images = warp_images(batch.images, draws.spatial)
    return change_colours(images, draws.colour.to(device)), boxes, is_box


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
    zooms = affine_matrices(
        scale_x=shrink,
        scale_y=shrink,
        move_x=uniform(0.0, 1.0) * (width - width * shrink),
        move_y=uniform(0.0, 1.0) * (height - height * shrink),
    )
    is_rotated = uniform(0.0, 1.0) < config.rotate_probability
    angle = uniform(-config.rotate_max_rad, config.rotate_max_rad) * is_rotated
    return rotation_matrices(angle, input_wh=input_wh) @ zooms @ moves @ flips


def affine_matrices(
    *,
    scale_x: torch.Tensor | None = None,
    scale_y: torch.Tensor | None = None,
    move_x: torch.Tensor | None = None,
    move_y: torch.Tensor | None = None,
) -> torch.Tensor:
    """Build (B, 3, 3) matrices that scale and then move; what is left out stays as it is."""
    given = [value for value in (scale_x, scale_y, move_x, move_y) if value is not None]
    matrices = torch.eye(3).repeat(len(given[0]), 1, 1)
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


def transform_boxes(boxes: torch.Tensor, spatial: torch.Tensor) -> torch.Tensor:
    """Move both corners of boxes (B, M, 4) and take minimum and maximum again, as NVIDIA does.

    Under rotation this box is smaller than the one around all four corners.
    """
    corners = boxes.unflatten(2, (2, 2))  # (B, M, 2, 2)
    moved = corners @ spatial[:, None, :2, :2].transpose(2, 3) + spatial[:, None, None, :2, 2]
    return torch.cat([moved.amin(dim=2), moved.amax(dim=2)], dim=2)


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
    # affine_grid works in coordinates from -1 to 1 over the picture.
    to_pixels = torch.tensor([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]])
    theta = (torch.linalg.inv(to_pixels) @ inverse @ to_pixels)[:, :2]
    grid = affine_grid(theta.to(images.device), [len(images), 3, height, width], False)
    planes = images.permute(0, 3, 1, 2).float()
    return grid_sample(planes, grid, align_corners=False).permute(0, 2, 3, 1)


def change_colours(images: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Map pixels (B, H, W, 3) in [0, 255] by colour (B, 4, 3) and clip them to [0, 1].

    Returns (B, 3, H, W) float32 in channels-last memory order; on the CPU, where OpenCV is three
    times faster than a matrix product, values are rounded to whole 1 / 255.
    """
    if images.device.type == "cpu":
        return to_input(_change_colours_on_cpu(images, colour))
    num_images, height, width = images.shape[:3]
    pixels = images.reshape(num_images, height * width, 3).float()
    changed = torch.baddbmm(colour[:, 3:], pixels, colour[:, :3] / 255.0).clamp_(0.0, 1.0)
    return changed.view(num_images, height, width, 3).permute(0, 3, 1, 2)


def to_input(images: torch.Tensor) -> torch.Tensor:
    """Turn images (B, H, W, 3) uint8 into network input (B, 3, H, W) float32, channels last."""
    return images.float().mul_(1.0 / 255.0).permute(0, 3, 1, 2)


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(0.0)
    return size[..., 0] * size[..., 1]


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


def _change_colours_on_cpu(images: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    rows = torch.cat([colour[:, :3], 255.0 * colour[:, 3:]], dim=1)
    matrices = rows.transpose(1, 2).contiguous().numpy()  # (B, 3, 4)
    pictures = images.numpy()
    changed = np.empty(pictures.shape, np.uint8)
    for picture, matrix, target in zip(pictures, matrices, changed, strict=True):
        cv2.transform(picture, matrix, dst=target)
    return torch.from_numpy(changed)
