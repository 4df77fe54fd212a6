"""From a BGR picture to the network's input tensor, and boxes back from there to the picture.

`tensor = scale * (pixel - offset[channel])`, bilinear (cv2.INTER_LINEAR) everywhere, so that
training, evaluation and the device see the same numbers.
"""

import functools
from typing import NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.core.boxes import WidthHeight, as_xyxy

RESIZES = ("stretch", "letterbox", "letterbox_topleft")
COLORS = ("rgb", "bgr")
# Pictures are converted so many rows at a time, which stay in the processor's cache from step to
# step, whatever else has filled it.
STRIP_ROWS = 64


class Preprocess(NamedTuple):
    """How pixels become a tensor; the "preprocess" of model.json.

    offset has one value per channel in the network's channel order, in pixel units (0 to 255).
    """

    color: str = "rgb"
    scale: float = 1.0 / 255.0
    offset: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    resize: str = "stretch"


class Placement(NamedTuple):
    """Where the resized picture lies in the network input: size and top left corner, in pixels."""

    size_wh: WidthHeight
    corner_xy: Tuple[int, int]


def place_image(image_wh: WidthHeight, input_wh: WidthHeight, resize: str) -> Placement:
    """Say where a picture of image_wh goes in an input of input_wh.

    stretch fills the input; letterbox keeps the aspect and centres; letterbox_topleft keeps the
    aspect and starts at (0, 0), as nvinfer does with symmetric-padding=0.
    Raises ValueError for another word or a picture without pixels.
    """
    if resize not in RESIZES:
        raise ValueError("resize is {!r}; known: {}".format(resize, ", ".join(RESIZES)))
    if min(image_wh) < 1:
        raise ValueError(f"image_wh is {image_wh}; expected at least 1 x 1")
    if resize == "stretch":
        return Placement((int(input_wh[0]), int(input_wh[1])), (0, 0))
    ratio = min(input_wh[0] / image_wh[0], input_wh[1] / image_wh[1])
    width = min(max(int(round(image_wh[0] * ratio)), 1), input_wh[0])
    height = min(max(int(round(image_wh[1] * ratio)), 1), input_wh[1])
    centred = ((input_wh[0] - width) // 2, (input_wh[1] - height) // 2)
    return Placement((width, height), centred if resize == "letterbox" else (0, 0))


@functools.lru_cache(maxsize=64)
def affine_to_input(
    image_wh: WidthHeight, input_wh: WidthHeight, resize: str
) -> Tuple[float, float, float, float]:
    """Return what takes a picture's pixels to the input's: ratio of x and y, corner's x and y.

    All are float32 values. Kept by arguments, because every frame of a source asks the same.
    """
    place = place_image(image_wh, input_wh, resize)
    x_ratio, y_ratio = (np.float32(place.size_wh[axis] / image_wh[axis]) for axis in (0, 1))
    return float(x_ratio), float(y_ratio), float(place.corner_xy[0]), float(place.corner_xy[1])


def boxes_to_image(
    xyxy: np.ndarray, *, input_wh: WidthHeight, image_wh: WidthHeight, resize: str = "stretch"
) -> np.ndarray:
    """Map boxes (N, 4) from network-input pixels back to the picture's, unclipped, float32."""
    ratio, corner = _affine(image_wh, input_wh, resize)
    return ((as_xyxy(xyxy) - corner) / ratio).astype(np.float32, copy=False)


def boxes_to_input(
    xyxy: np.ndarray, *, input_wh: WidthHeight, image_wh: WidthHeight, resize: str = "stretch"
) -> np.ndarray:
    """Map boxes (N, 4) from the picture's pixels to network-input pixels, unclipped, float32."""
    ratio, corner = _affine(image_wh, input_wh, resize)
    return (as_xyxy(xyxy) * ratio + corner).astype(np.float32, copy=False)


def resize_image(image_bgr: np.ndarray, *, input_wh: WidthHeight, resize: str) -> np.ndarray:
    """Bring a picture (H, W, 3) uint8 to input_wh; what a letterbox leaves free is black.

    Returns the picture itself when it already fits: do not write into the result.
    """
    height, width = image_bgr.shape[:2]
    place = place_image((width, height), input_wh, resize)
    resized = image_bgr
    if place.size_wh != (width, height):
        resized = cv2.resize(image_bgr, place.size_wh, interpolation=cv2.INTER_LINEAR)
    if place.size_wh == tuple(input_wh):
        return resized
    canvas = np.zeros((input_wh[1], input_wh[0], 3), dtype=image_bgr.dtype)
    left, top = place.corner_xy
    canvas[top : top + place.size_wh[1], left : left + place.size_wh[0]] = resized
    return canvas


def image_to_tensor(
    image_bgr: np.ndarray,
    *,
    input_wh: WidthHeight,
    scale: float = 1.0 / 255.0,
    offset: Sequence[float] = (0.0, 0.0, 0.0),
    resize: str = "stretch",
    color: str = "rgb",
    out: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Make the input (3, H, W) float32 of one picture (h, w, 3) uint8 BGR.

    out: a kept float32 buffer (3, H, W) to write into and return, which saves the allocation.
    Raises ValueError for a picture that is not (h, w, 3) uint8, and for unknown resize or color.
    """
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8:
        raise ValueError(
            f"image is {image_bgr.shape} {image_bgr.dtype}; expected (height, width, 3) uint8 BGR"
        )
    if color not in COLORS:
        raise ValueError("color is {!r}; known: {}".format(color, ", ".join(COLORS)))
    tensor = np.empty((3, input_wh[1], input_wh[0]), np.float32) if out is None else out
    resized = resize_image(image_bgr, input_wh=input_wh, resize=resize)
    shift = np.array(offset, dtype=np.float32)[:, None, None] if any(offset) else None
    for top in range(0, len(resized), STRIP_ROWS):
        planes = cv2.split(resized[top : top + STRIP_ROWS])
        strip = tensor[:, top : top + STRIP_ROWS]
        for index, plane in enumerate(planes if color == "bgr" else planes[::-1]):
            strip[index] = plane
        if shift is not None:
            strip -= shift
        # In place: faster than multiplying the uint8 planes, which goes through a cast buffer.
        np.multiply(strip, np.float32(scale), out=strip)
    return tensor


def images_to_batch(
    images_bgr: Sequence[np.ndarray],
    *,
    input_wh: WidthHeight,
    scale: float = 1.0 / 255.0,
    offset: Sequence[float] = (0.0, 0.0, 0.0),
    resize: str = "stretch",
    color: str = "rgb",
    out: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Make the batch (B, 3, H, W) float32 of B pictures, which may differ in size; B may be 0.

    out: a kept buffer of at least B entries; the first B are written and returned.
    """
    if out is None:
        out = np.empty((len(images_bgr), 3, input_wh[1], input_wh[0]), np.float32)
    for index, image in enumerate(images_bgr):
        image_to_tensor(
            image,
            input_wh=input_wh,
            scale=scale,
            offset=offset,
            resize=resize,
            color=color,
            out=out[index],
        )
    return out[: len(images_bgr)]


def _affine(
    image_wh: WidthHeight, input_wh: WidthHeight, resize: str
) -> Tuple[np.ndarray, np.ndarray]:
    numbers = affine_to_input(tuple(image_wh), tuple(input_wh), resize)
    return np.array(numbers[:2] * 2, np.float32), np.array(numbers[2:] * 2, np.float32)
