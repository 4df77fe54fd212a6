"""Put hands that were photographed before a plain wall in front of other things.

Crops of one source often share a background, and a classifier learns it with the gesture. Where
the border of a crop is of one colour, whatever its brightness, what has another colour is the hand
(and the arm, and whoever stands there); the rest is replaced by drawn rooms.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np

from stages.datasets.render.background import draw_room

RING_FRAC = 0.06  # of the crop's side: left, right and upper border; arms come in from below
# Distances of log chromaticity. A border is plain if this share of it is this near its median, or
# if the hand differs from it this many times more than it from itself (a lit screen, one colour).
PLAIN_SHARE = 0.7
PLAIN_DISTANCE = 0.12
PLAIN_CONTRAST = 3.0
MIN_DISTANCE = 0.1  # of the hand's colour from the background's
BLACK_BELOW = 34  # grey levels: has no colour; padding and deep shadow
MIN_HAND_FRAC, MAX_HAND_FRAC = 0.06, 0.75
MIDDLE_FRAC = 0.4  # of the mask's middle square that has to be hand
ROOM_HW = (320, 420)
ROOM_MIN_PX = 140
FLAT_PROBABILITY = 0.15  # one colour instead of a room: walls
BLUR_PROBABILITY = 0.4  # what is behind a hand is out of focus
BLUR_MIN_SIGMA, BLUR_MAX_SIGMA = 0.5, 4.0
GAIN_MAX = 0.35


class Backgrounds(NamedTuple):
    """masks: alpha (S, S) uint8 of the crops that can be cut out, by index. pictures: (K, S, S, 3)
    uint8 BGR, K > 0."""

    masks: dict[int, np.ndarray]
    pictures: np.ndarray


class Behind(NamedTuple):
    """What stands behind a hand: a picture's index, its mirroring, brightness, whether it is one
    colour, and its blur in pixels (0 = none)."""

    picture: int
    is_mirrored: bool
    gain: float
    is_flat: bool
    blur_sigma: float


def find_backgrounds(
    images: np.ndarray, indices: Iterable[int], *, num_pictures: int, seed: int
) -> Backgrounds:
    """Cut out the crops of images (N, S, S, 3) at these indices, and draw pictures to set behind.

    The same seed gives the same pictures.
    """
    masks = {}
    for index in indices:
        mask = find_hand(images[index])
        if mask is not None:
            masks[int(index)] = mask
    return Backgrounds(masks, draw_pictures(num_pictures, size_px=images.shape[1], seed=seed))


def find_hand(image: np.ndarray) -> np.ndarray | None:
    """Return the alpha (S, S) uint8 of what stands before a plain background, or None.

    image: (S, S, 3) uint8 BGR with the hand in the middle. None where the border has several
    colours, or what differs from it is too small, too large or not in the middle.
    """
    distance, is_black = _colour_distance(image)
    side = len(image)
    ring = max(2, round(RING_FRAC * side))
    border = np.zeros((side, side), bool)
    border[:ring] = border[:, :ring] = border[:, -ring:] = True
    border &= ~is_black
    if not border.any():
        return None
    scaled = np.clip(distance * 255, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(scaled[~is_black][None], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    is_hand = (distance > max(0.8 * otsu / 255, MIN_DISTANCE)) & ~is_black
    mask = _largest_part(is_hand.astype(np.uint8))
    spread = float(np.quantile(distance[border], PLAIN_SHARE))
    if spread > PLAIN_DISTANCE and (
        not mask.any() or np.median(distance[mask > 0]) < PLAIN_CONTRAST * spread
    ):
        return None
    low, high = round(side * 0.375), round(side * 0.625)
    if not MIN_HAND_FRAC < mask.mean() < MAX_HAND_FRAC:
        return None
    if mask[low:high, low:high].mean() < MIDDLE_FRAC:
        return None
    return cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), np.uint8)) * 255, (5, 5), 1.0)


def draw_pictures(num: int, *, size_px: int, seed: int) -> np.ndarray:
    """Draw pieces of rooms: (num, size_px, size_px, 3) uint8 BGR."""
    return np.stack([_draw_picture(size_px, [seed, number]) for number in range(num)])


def draw_behind(num_pictures: int, generator: np.random.Generator) -> Behind:
    """Draw which of the pictures is set behind a hand, and how."""
    picture = int(generator.integers(num_pictures))
    is_mirrored = bool(generator.random() < 0.5)
    gain = float(1 + GAIN_MAX * generator.uniform(-1, 1))
    is_flat = bool(generator.random() < FLAT_PROBABILITY)
    is_blurred = not is_flat and generator.random() < BLUR_PROBABILITY
    sigma = float(generator.uniform(BLUR_MIN_SIGMA, BLUR_MAX_SIGMA)) if is_blurred else 0.0
    return Behind(picture, is_mirrored, gain, is_flat, sigma)


def change_background(
    image: np.ndarray, mask: np.ndarray, pictures: np.ndarray, how: Behind
) -> np.ndarray:
    """Set one of the pictures behind the hand: (S, S, 3) uint8."""
    picture = pictures[how.picture]
    behind = (picture[:, ::-1] if how.is_mirrored else picture).astype(np.float32) * how.gain
    if how.is_flat:
        behind = np.broadcast_to(behind.mean(axis=(0, 1)), behind.shape)
    elif how.blur_sigma:
        behind = cv2.GaussianBlur(behind, (0, 0), how.blur_sigma)
    alpha = mask[..., None].astype(np.float32) / 255
    return np.clip(alpha * image + (1 - alpha) * behind, 0, 255).astype(np.uint8)


def _colour_distance(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (S, S) of the log chromaticity from the border's median, and where it is black.

    log(r / g) and log(b / g) do not change with the brightness of the light.
    """
    smooth = cv2.GaussianBlur(image, (5, 5), 1.2)
    is_black = smooth.max(axis=2) < BLACK_BELOW
    logs = np.log(smooth.astype(np.float32) + 8.0)
    chroma = np.stack([logs[..., 2] - logs[..., 1], logs[..., 0] - logs[..., 1]], axis=2)
    ring = max(2, round(RING_FRAC * len(image)))
    sides = [chroma[:ring], chroma[:, :ring], chroma[:, -ring:]]
    blacks = [is_black[:ring], is_black[:, :ring], is_black[:, -ring:]]
    border = np.concatenate(
        [part[~black] for part, black in zip(sides, blacks, strict=True)]  # (P, 2)
    )
    middle = np.median(border, axis=0) if len(border) else np.zeros(2, np.float32)
    return np.hypot(*np.moveaxis(chroma - middle, 2, 0)), is_black


def _largest_part(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected part of a mask (S, S) of 0 and 1, small gaps closed."""
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return np.zeros_like(mask)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return (labels == largest).astype(np.uint8)


def _draw_picture(size_px: int, seed: list[int]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    horizon = float(generator.uniform(0.2, 0.7))
    room = draw_room(generator, ROOM_HW, "train", horizon=horizon).picture
    side = int(generator.integers(ROOM_MIN_PX, min(ROOM_HW) + 1))
    x = int(generator.integers(0, ROOM_HW[1] - side + 1))
    y = int(generator.integers(0, ROOM_HW[0] - side + 1))
    piece = np.clip(room[y : y + side, x : x + side] * generator.uniform(0.5, 1.2), 0, 255)
    return cv2.resize(piece, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
