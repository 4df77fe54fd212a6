"""Frames and labels of one side of the split as a KITTI folder of its own, for dataset_convert.

TAO reads frames of the network's size: others it pads with black to the largest one of the set and
cuts off at the network's, without a word. `stretch` hands it frames resized as the runtime does
(both axes to the network's size), `exact` refuses them, `auto_resize` hands them on as they are.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from deploy.core.kitti import format_labels, hand_label, label_boxes, read_labels
from stages.datasets.headers import read_image_size
from stages.datasets.index import find_image
from stages.datasets.trees import link_or_copy
from stages.tao.errors import TaoError
from stages.tao.spec import CLASS, EXTENSION, IMAGES, LABELS

JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 95


class SourceCounts(NamedTuple):
    """How many frames were written, and how many of them resized."""

    frames: int
    resized: int


def write_source(
    folder: Path,
    kitti: Path,
    stems: Sequence[str],
    *,
    input_wh: tuple[int, int],
    frames: str,
    desc: str,
) -> SourceCounts:
    """Write images/ and labels/ below an existing, empty folder.

    stems: one that is listed several times gets as many frames. frames: "stretch", "exact" or
    "auto_resize". Frames that fit are hard links; boxes are scaled with their frame.
    Raises TaoError for a frame of another size with "exact" and for one that is no picture.
    """
    for name in (IMAGES, LABELS):
        (folder / name).mkdir()
    seen: dict[str, int] = {}
    resized = 0
    for stem in tqdm(stems, desc=f"frames {desc}", unit="frame", disable=None):
        seen[stem] = seen.get(stem, 0) + 1
        name = stem if seen[stem] == 1 else f"{stem}__{seen[stem]}"
        resized += _write_frame(folder, kitti, stem, name, input_wh=input_wh, frames=frames)
    return SourceCounts(len(stems), resized)


def _write_frame(
    folder: Path, kitti: Path, stem: str, name: str, *, input_wh: tuple[int, int], frames: str
) -> bool:
    """Write one frame and its labels; returns whether it was resized."""
    source = find_image(kitti, stem)
    target = folder / IMAGES / f"{name}.{EXTENSION}"
    labels = kitti / "labels" / f"{stem}.txt"
    is_jpeg = source.suffix.lower() in JPEG_SUFFIXES
    image_wh = read_image_size(source)
    fits = frames == "auto_resize" or image_wh == input_wh
    if not fits and frames == "exact":
        raise TaoError(
            f"{source} is {image_wh[0]}x{image_wh[1]}, the network {input_wh[0]}x{input_wh[1]}, "
            "and TAO would cut it off; set backend.tao.frames to stretch, or model.input_wh to "
            "the frames' size"
        )
    if fits and is_jpeg:
        link_or_copy(os.fspath(source), os.fspath(target))
    else:
        image = _read(source)
        picture = image if fits else cv2.resize(image, input_wh, interpolation=cv2.INTER_LINEAR)
        if not cv2.imwrite(str(target), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise TaoError(f"{target} cannot be written; make room there and run again")
    boxes = label_boxes(read_labels(labels), class_name=CLASS)
    if not fits:
        width, height = image_wh
        scale = [input_wh[0] / width, input_wh[1] / height] * 2
        boxes = boxes * np.array(scale, np.float32)
    text = format_labels([hand_label(box) for box in boxes.tolist()])
    (folder / LABELS / f"{name}.txt").write_text(text)
    return not fits


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise TaoError(f"{path} is no picture; run the convert stage again: dvc repro convert")
    return image
