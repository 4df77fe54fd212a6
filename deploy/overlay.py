"""Draw boxes with labels on a picture, readable on any background and at any resolution."""

from typing import Sequence, Tuple, Union

import cv2
import numpy as np

Color = Tuple[int, int, int]  # blue, green, red, 0 to 255

GREEN: Color = (96, 200, 48)
ORANGE: Color = (24, 140, 255)
BLUE: Color = (235, 150, 40)
INK: Color = (24, 24, 24)
WHITE: Color = (255, 255, 255)

FONT = cv2.FONT_HERSHEY_DUPLEX
FONT_HEIGHT = 21.0  # pixels of a capital letter at font scale 1


def draw_detections(
    image_bgr: np.ndarray,
    xyxy: np.ndarray,
    texts: Sequence[str],
    *,
    colors: Union[Color, Sequence[Color]],
) -> np.ndarray:
    """Return a copy of the picture (H, W, 3) uint8 with one box and one label per row of xyxy.

    texts: one per box, "" for a box without a label. colors: one for all or one per box. Lines and
    letters grow with the picture. A label stands above its box, inside it where there is no room,
    and never leaves the picture. Boxes are drawn in reverse order, so that the first (the most
    confident) lies on top. Boxes that are not finite are left out.
    Raises ValueError when the numbers of boxes, texts and colors differ.
    """
    palette = _palette(colors, len(xyxy))
    if len(texts) != len(xyxy):
        raise ValueError(f"{len(xyxy)} boxes but {len(texts)} texts")
    canvas = image_bgr.copy()
    unit = line_width(image_bgr.shape)
    drawable = [n for n in range(len(xyxy)) if np.isfinite(xyxy[n]).all()]
    for index in reversed(drawable):
        _draw_box_inplace(canvas, xyxy[index], palette[index], unit)
    for index in reversed(drawable):
        if texts[index]:
            corner = (float(xyxy[index][0]) - unit / 2, float(xyxy[index][1]) - unit / 2)
            _draw_label_inplace(canvas, texts[index], corner, palette[index], unit)
    return canvas


def draw_caption(image_bgr: np.ndarray, text: str) -> np.ndarray:
    """Return a copy with a line of text on a dark strip in the lower left corner."""
    canvas = image_bgr.copy()
    unit = line_width(image_bgr.shape)
    _draw_label_inplace(canvas, text, (0.0, float(image_bgr.shape[0]) + 99 * unit), INK, unit)
    return canvas


def line_width(shape: Sequence[int]) -> int:
    """Return the width of a box's line in pixels for a picture of shape (H, W, ...)."""
    return max(1, int(round(min(shape[0], shape[1]) / 240.0)))


def _palette(colors: Union[Color, Sequence[Color]], count: int) -> Sequence[Color]:
    entries = list(colors)
    if len(entries) == 3 and all(np.isscalar(entry) for entry in entries):
        return [tuple(int(entry) for entry in entries)] * count  # type: ignore
    if len(entries) != count:
        raise ValueError(f"{count} boxes but {len(entries)} colors")
    return entries  # type: ignore


def _draw_box_inplace(canvas: np.ndarray, box: np.ndarray, color: Color, unit: int) -> None:
    height, width = canvas.shape[:2]
    # Half a line inside the border, so that a box that fills the picture keeps all its sides.
    limit = np.array([width, height, width, height]) - 1 - unit // 2
    x_min, y_min, x_max, y_max = (int(value) for value in np.clip(np.rint(box), unit // 2, limit))
    # Level lines need no anti-aliasing, which costs three times as much.
    shade = tuple(channel // 4 for channel in color)
    cv2.rectangle(canvas, (x_min, y_min), (x_max, y_max), shade, unit + 2)
    cv2.rectangle(canvas, (x_min, y_min), (x_max, y_max), color, unit)


def _draw_label_inplace(
    canvas: np.ndarray, text: str, corner: Tuple[float, float], color: Color, unit: int
) -> None:
    """Write text on a filled plate above the box whose upper left corner is given."""
    height, width = canvas.shape[:2]
    scale = max(0.4, 5.6 * unit / FONT_HEIGHT)
    thickness = max(1, int(round(unit * 0.55)))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, thickness)
    pad = unit + 2
    plate_wh = (text_width + 2 * pad, text_height + below + pad)
    left = int(np.clip(round(corner[0]), 0, max(width - plate_wh[0], 0)))
    top = int(round(corner[1])) - plate_wh[1]
    if top < 0:
        top = int(round(corner[1])) + unit
    top = int(np.clip(top, 0, max(height - plate_wh[1], 0)))
    lower_right = (left + plate_wh[0], top + plate_wh[1])
    cv2.rectangle(canvas, (left, top), lower_right, color, cv2.FILLED)
    baseline = (left + pad, top + text_height + pad // 2 + 1)
    cv2.putText(canvas, text, baseline, FONT, scale, _ink_on(color), thickness, cv2.LINE_AA)


def _ink_on(color: Color) -> Color:
    """Return dark or white ink, whichever stands out from color (luma of ITU-R BT.601)."""
    luma = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2]
    return INK if luma > 110 else WHITE
