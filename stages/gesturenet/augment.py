"""Random changes of training crops: a detector's box errors, rotation, flip, colour, noise.

Everything random of a batch is drawn first, in one order, from one generator (`draw_changes`);
`apply_change` is then a pure function of one picture, so that threads may share the work without
changing the result.
"""

from typing import NamedTuple

import cv2
import numpy as np

from deploy.core.roi import RoiRule, expand_boxes
from stages.gesturenet.config import GestureAugmentConfig
from stages.gesturenet.finish import NO_FINISH, Finish, apply_finish, draw_finishes

# ITU-R BT.601 luma of a BGR pixel.
LUMA_BGR = np.array([0.114, 0.587, 0.299])
MIDDLE_GREY = 128.0
ERASE_MIN_FRAC = 0.05
# What `enabled: false` means: the region of the label's own box, as validation sees it.
NO_CHANGE = GestureAugmentConfig(
    flip_probability=0.0,
    box_shift_frac=0.0,
    box_scale_frac=0.0,
    rotate_max_deg=0.0,
    lowres_probability=0.0,
    gain_max=0.0,
    contrast_max=0.0,
    saturation_max=0.0,
    channel_gain_max=0.0,
    noise_probability=0.0,
    erase_probability=0.0,
)


class Change(NamedTuple):
    """What happens to one crop.

    matrix: (2, 3), crop pixels to output pixels (cv2.warpAffine's forward map at size_px).
    lowres_px: side through which the picture is squeezed; size_px = not at all. colour: (3, 4),
    BGR1 to BGR in [0, 255]. noise: half width of uniform noise in [0, 255], 0 = none; noise_seed:
    its own seed. erase_xyxy: (4,) whole pixels of the output, empty = nothing; erase_bgr: (3,).
    finish: of camera and light, after the colours.
    """

    matrix: np.ndarray
    lowres_px: int
    colour: np.ndarray
    noise: float
    noise_seed: int
    erase_xyxy: np.ndarray
    erase_bgr: np.ndarray
    finish: Finish = NO_FINISH


def disturb_boxes(
    xyxy: np.ndarray, generator: np.random.Generator, *, shift_frac: float, scale_frac: float
) -> np.ndarray:
    """Move and scale boxes (N, 4) as an imperfect detector does: (N, 4) float32.

    The centre moves by a normal error of shift_frac box sides, each side is scaled by exp(normal
    error of scale_frac); errors beyond two standard deviations are cut to two.
    """
    low, extent = xyxy[:, :2].astype(np.float64), (xyxy[:, 2:] - xyxy[:, :2]).astype(np.float64)
    error = np.clip(generator.standard_normal((len(xyxy), 4)), -2, 2)
    centre = low + extent / 2 + error[:, :2] * shift_frac * extent
    half = extent * np.exp(error[:, 2:] * scale_frac) / 2
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def region_matrix(
    region: np.ndarray, *, size_px: int, angle_deg: float = 0.0, flip: bool = False
) -> np.ndarray:
    """Return the (2, 3) map that turns a region (4,) of a crop into a picture of size_px pixels.

    The region is turned about its centre by angle_deg (clockwise as seen) and mirrored left to
    right. Pixel centres are at half integers as in cv2.resize, although warpAffine puts them at
    integers.
    """
    centre = (region[:2] + region[2:]) / 2
    scale = size_px / (region[2:] - region[:2])
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    turn = np.diag([-1.0 if flip else 1.0, 1.0]) @ np.diag(scale)
    turn = turn @ np.array([[cosine, -sine], [sine, cosine]])
    offset = size_px / 2 - 0.5 - turn @ (centre - 0.5)
    return np.concatenate([turn, offset[:, None]], axis=1)


def warp_crop(image: np.ndarray, matrix: np.ndarray, *, size_px: int) -> np.ndarray:
    """Resample a crop (S, S, 3) bilinearly to (size_px, size_px, 3), mirrored at its border."""
    return cv2.warpAffine(
        image,
        matrix,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def draw_changes(
    boxes: np.ndarray,
    generator: np.random.Generator,
    config: GestureAugmentConfig,
    rule: RoiRule,
    *,
    size_px: int,
    turns_deg: np.ndarray | None = None,
) -> list[Change]:
    """Draw the changes of a batch of crops whose hands are boxes (N, 4) in crop pixels.

    turns_deg: (N,) by how much each is turned instead of a random angle; NaN = by that one.
    """
    config = config if config.enabled else NO_CHANGE
    num = len(boxes)
    shift, scale = config.box_shift_frac, config.box_scale_frac
    disturbed = disturb_boxes(boxes, generator, shift_frac=shift, scale_frac=scale)
    # The crop's own border is no frame border: what lies outside it is handled by warp_crop.
    regions = expand_boxes(disturbed, rule._replace(border="pad"), image_wh=(1, 1))
    if config.region_scale_max:
        regions = _scale_regions(regions, generator, scale_max=config.region_scale_max)
    angles = generator.uniform(-config.rotate_max_deg, config.rotate_max_deg, num)
    if turns_deg is not None:
        angles = np.where(np.isnan(turns_deg), angles, turns_deg)
    is_flipped = generator.random(num) < config.flip_probability
    return [
        Change(region_matrix(region, size_px=size_px, angle_deg=angle, flip=flip), *rest)
        for region, angle, flip, *rest in zip(
            regions,
            angles,
            is_flipped,
            _draw_lowres(num, generator, config, size_px=size_px),
            _draw_colours(num, generator, config),
            _draw_noise(num, generator, config),
            generator.integers(0, 2**32, num),
            _draw_rectangles(num, generator, config, size_px=size_px),
            generator.integers(0, 256, (num, 3)),
            draw_finishes(num, generator, config),
            strict=True,
        )
    ]


def _scale_regions(
    regions: np.ndarray, generator: np.random.Generator, *, scale_max: float
) -> np.ndarray:
    """Scale regions (N, 4) about their centres by exp of up to scale_max, to either side."""
    factors = np.exp(generator.uniform(-scale_max, scale_max, (len(regions), 1)))
    centre = (regions[:, :2] + regions[:, 2:]) / 2
    half = (regions[:, 2:] - regions[:, :2]) / 2 * factors
    return np.concatenate([centre - half, centre + half], axis=1)


def apply_change(image: np.ndarray, change: Change, *, size_px: int) -> np.ndarray:
    """Return the changed crop (size_px, size_px, 3) uint8 BGR."""
    changed = _resample(image, change, size_px=size_px)
    changed = apply_finish(cv2.transform(changed, change.colour), change.finish)
    if round(change.noise) > 0:
        changed = _add_noise(changed, change.noise, change.noise_seed)
    x_min, y_min, x_max, y_max = change.erase_xyxy
    changed[y_min:y_max, x_min:x_max] = change.erase_bgr
    return changed


def colour_matrix(
    *, gain: float, contrast: float, saturation: float, channel_gains: np.ndarray
) -> np.ndarray:
    """Return the (3, 4) map of BGR pixels: saturation, channel gains (3,), contrast, gain.

    Pixels are in [0, 255]; 1 leaves each as it is. Contrast scales about middle grey,
    saturation about the pixel's luma.
    """
    colour = saturation * np.eye(3) + (1 - saturation) * LUMA_BGR[None, :]
    colour = gain * contrast * channel_gains[:, None] * colour
    offset = np.full((3, 1), gain * (1 - contrast) * MIDDLE_GREY)
    return np.concatenate([colour, offset], axis=1)


def _draw_lowres(
    num: int, generator: np.random.Generator, config: GestureAugmentConfig, *, size_px: int
) -> np.ndarray:
    least = min(config.lowres_min_px, size_px)
    sides = generator.integers(least, size_px + 1, num)
    return np.where(generator.random(num) < config.lowres_probability, sides, size_px)


def _draw_noise(
    num: int, generator: np.random.Generator, config: GestureAugmentConfig
) -> np.ndarray:
    """Draw half widths (num,) of uniform noise: sqrt(3) standard deviations."""
    half_width = 255 * np.sqrt(3) * generator.uniform(0, config.noise_max, num)
    return np.where(generator.random(num) < config.noise_probability, half_width, 0)


def _draw_colours(
    num: int, generator: np.random.Generator, config: GestureAugmentConfig
) -> list[np.ndarray]:
    most = [config.gain_max, config.contrast_max, config.saturation_max]
    most += 3 * [config.channel_gain_max]
    factors = 1 + generator.uniform(-1, 1, (num, 6)) * most
    return [
        colour_matrix(gain=one[0], contrast=one[1], saturation=one[2], channel_gains=one[3:])
        for one in factors
    ]


def _draw_rectangles(
    num: int, generator: np.random.Generator, config: GestureAugmentConfig, *, size_px: int
) -> np.ndarray:
    """Draw rectangles (num, 4) of whole pixels; empty ones where nothing is erased."""
    longest = max(ERASE_MIN_FRAC, config.erase_max_frac)
    sides = generator.uniform(ERASE_MIN_FRAC, longest, (num, 2)) * size_px
    corner = generator.uniform(0, 1, (num, 2)) * (size_px - sides)
    is_erased = generator.random(num) < config.erase_probability
    rectangles = np.concatenate([corner, corner + sides], axis=1).astype(np.int64)
    return np.where(is_erased[:, None], rectangles, 0)


def _resample(image: np.ndarray, change: Change, *, size_px: int) -> np.ndarray:
    if change.lowres_px == size_px:
        return warp_crop(image, change.matrix, size_px=size_px)
    shrink = change.lowres_px / size_px
    matrix = change.matrix * shrink
    matrix[:, 2] += shrink / 2 - 0.5  # keeps pixel centres at half integers
    small = warp_crop(image, matrix, size_px=change.lowres_px)
    return cv2.resize(small, (size_px, size_px), interpolation=cv2.INTER_LINEAR)


def _add_noise(image: np.ndarray, half_width: float, seed: int) -> np.ndarray:
    most = round(half_width)
    noise = np.random.default_rng(seed).integers(-most, most + 1, image.shape, np.int16)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
