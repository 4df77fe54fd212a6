"""The region around a hand that the gesture classifier looks at.

NVIDIA's demo widens each detection by 200 pixels in place, before tracking, and takes the right
and bottom edge from the left and top one that it has already moved. Here the tight box never
changes: `expand_boxes` returns a widened copy that is symmetric about the box, and `crop_regions`
cuts it out of the frame.

A region is x1 = x_min - mx, x2 = x_max + mx (likewise y); mx is given in pixels, or is width *
(ratio - 1) / 2. A square region takes the longer side for both. At the frame's border the region
is then

- "pad": left as it is, which keeps centre and aspect; `crop_regions` fills the outside with black;
- "clip": cut at the border, which changes the aspect;
- "shift": moved inside unchanged, and cut only where it is longer than the frame.
"""

import math
from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np

MODES = ("ratio", "pixels")
BORDERS = ("pad", "clip", "shift")

# An edge nearer than this to a pixel's edge counts as on it, so that float32 rounding adds no row
# or column.
EDGE_TOLERANCE = 1e-3


class RoiRule(NamedTuple):
    """How a tight box becomes a region.

    mode: "ratio" (of the box, >= 1) or "pixels" (margins >= 0, at the frame's own resolution);
    border: "pad", "clip" or "shift". The demo's intention at 1280x720 is
    RoiRule(mode="pixels", margin_x=200, margin_y=200, square=False, border="clip").
    """

    mode: str = "ratio"
    ratio: float = 1.4
    margin_x: float = 200.0
    margin_y: float = 200.0
    square: bool = True
    border: str = "pad"


def check_rule(rule: RoiRule) -> None:
    """Raise ValueError, naming the known values, for a rule that means nothing."""
    if rule.mode not in MODES:
        raise ValueError(f"roi mode {rule.mode!r} is unknown; known: {', '.join(MODES)}")
    if rule.border not in BORDERS:
        raise ValueError(f"roi border {rule.border!r} is unknown; known: {', '.join(BORDERS)}")
    if not (rule.ratio >= 1 and rule.margin_x >= 0 and rule.margin_y >= 0):
        raise ValueError(f"roi ratio must be >= 1 and its margins >= 0, got {rule}")


def expand_boxes(xyxy: np.ndarray, rule: RoiRule, *, image_wh: Tuple[int, int]) -> np.ndarray:
    """Return the regions around tight boxes, as a copy (N, 4) float32 in pixels of the frame.

    xyxy: (N, 4), x_max >= x_min and y_max >= y_min; N may be 0. Every region contains the part of
    its box that is inside the frame. Regions of "clip" and "shift" lie inside the frame, those of
    "pad" may reach outside. A box outside the frame gives an empty region under "clip"; NaN stays.
    Raises: ValueError for an unknown mode or border, a ratio below 1 or a negative margin.
    """
    check_rule(rule)
    width, height = image_wh
    regions = []
    for left, top, right, bottom in np.asarray(xyxy).reshape(-1, 4).tolist():
        x_margin, y_margin = _margins(right - left, bottom - top, rule)
        left, right = _place(left - x_margin, right + x_margin, width, rule.border)
        top, bottom = _place(top - y_margin, bottom + y_margin, height, rule.border)
        regions.append((left, top, right, bottom))
    return np.array(regions, np.float32).reshape(-1, 4)


def crop_regions(image: np.ndarray, xyxy: np.ndarray, *, size_wh: Tuple[int, int]) -> np.ndarray:
    """Cut regions out of a frame and resize each: (N, height, width, 3) uint8, BGR like the frame.

    image: (H, W, 3) uint8; xyxy: (N, 4), N may be 0. Edges go outwards to whole pixels, as those
    of DeepStream's crops do; bilinear resize without anti-aliasing. Outside the frame is black,
    and so is the whole crop of a region that is empty, NaN or wholly outside.
    """
    width, height = size_wh
    crops = np.zeros((len(xyxy), height, width, 3), np.uint8)
    for crop, region in zip(crops, np.asarray(xyxy, np.float64)):
        pixels = _cut(image, region)
        if pixels is not None:
            crop[:] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return crops


def _margins(width: float, height: float, rule: RoiRule) -> Tuple[float, float]:
    """What is added on each side of a box of this extent: left and right, top and bottom."""
    if rule.mode == "ratio":
        x_margin, y_margin = width * (rule.ratio - 1) / 2, height * (rule.ratio - 1) / 2
    else:
        x_margin, y_margin = rule.margin_x, rule.margin_y
    if rule.square:
        width, height = width + 2 * x_margin, height + 2 * y_margin
        longer = max(width, height)
        return x_margin + (longer - width) / 2, y_margin + (longer - height) / 2
    return x_margin, y_margin


def _place(low: float, high: float, limit: float, border: str) -> Tuple[float, float]:
    """Fit an interval into [0, limit] as the rule for the border says."""
    if border == "pad":
        return low, high
    if border == "shift":
        if high - low > limit:
            low, high = 0.0, limit
        else:
            move = max(-low, 0.0) - max(high - limit, 0.0)
            low, high = low + move, high + move
    # In this order NaN stays.
    return min(max(low, 0.0), limit), min(max(high, 0.0), limit)


def _cut(image: np.ndarray, region: np.ndarray) -> Optional[np.ndarray]:
    """The pixels of one region (4,), black outside the frame; None where nothing is to see."""
    frame_height, frame_width = image.shape[:2]
    if not np.isfinite(region).all():
        return None
    left, top = (math.floor(edge + EDGE_TOLERANCE) for edge in region[:2])
    right, bottom = (math.ceil(edge - EDGE_TOLERANCE) for edge in region[2:])
    inside_left, inside_top = max(left, 0), max(top, 0)
    inside = image[inside_top : min(bottom, frame_height), inside_left : min(right, frame_width)]
    if min(right, bottom) <= 0 or inside.size == 0:
        return None
    if inside.shape[:2] == (bottom - top, right - left):
        return inside
    canvas = np.zeros((bottom - top, right - left, 3), np.uint8)
    row, column = inside_top - top, inside_left - left
    canvas[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return canvas
