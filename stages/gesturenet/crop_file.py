"""Crops in one file, so that drawn ones need not be drawn again: a NumPy archive of JPEGs.

What the crops were made from is written with them; a file that was made from something else is
not taken.
"""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.gesturenet.crops import Crops
from stages.gesturenet.errors import GestureError

JPEG_QUALITY = 88


def save_crops(path: Path, crops: Crops, made_from: Mapping[str, Any]) -> None:
    """Write crops and what they were made from; what was at path before is replaced.

    made_from: anything that JSON can say. The pictures lose a little (JPEG).
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(_encode, crops.images))
    aside = path.with_suffix(".tmp.npz")
    np.savez(
        aside,
        made_from=np.array(_text(made_from)),
        side=np.array(crops.images.shape[1]),
        pictures=np.concatenate([np.zeros(0, np.uint8), *pictures]),
        lengths=np.array([len(one) for one in pictures], np.int64),
        boxes=crops.boxes,
        class_id=crops.class_id,
        names=np.array(crops.names, str),
        joints=crops.joints,
    )
    os.replace(aside, path)


def load_saved_crops(path: Path, made_from: Mapping[str, Any]) -> Crops:
    """Read what save_crops wrote. Raises GestureError for another file, or other made_from."""
    try:
        with np.load(path) as archive:
            content = {name: archive[name] for name in archive.files}
        text, side = str(content["made_from"]), int(content["side"])
        ends = np.cumsum(content["lengths"])
    except (OSError, ValueError, KeyError) as error:
        raise GestureError(
            f"{path} is no file of crops ({error}); remove it, and it is made again"
        ) from error
    if text != _text(made_from):
        raise GestureError(
            f"{path} has crops made from {text}, expected {_text(made_from)}; name another file, "
            "or remove it"
        )
    parts = np.split(content["pictures"], ends[:-1]) if len(ends) else []
    images = np.zeros((len(parts), side, side, 3), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, image in enumerate(pool.map(_decode, parts)):
            images[index] = image
    names = tuple(content["names"].tolist())
    return Crops(images, content["boxes"], content["class_id"], names, content["joints"])


def _encode(image: np.ndarray) -> np.ndarray:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "a uint8 BGR picture always encodes"
    return np.asarray(data).ravel()


def _decode(data: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def _text(made_from: Mapping[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True)
