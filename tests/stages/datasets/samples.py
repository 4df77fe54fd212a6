"""Tiny data sets for the tests, in the layouts that users bring."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from stages.datasets.egohands import HAND_FIELDS

IMAGE_WH = (64, 48)
SQUARE = np.array([[10.0, 10.0], [20.0, 10.0], [20.0, 22.0], [10.0, 22.0]])
LABEL = "hand 0.00 0 0.00 {:.2f} {:.2f} {:.2f} {:.2f} 0.00 0.00 0.00 0.00 0.00 0.00 0.00\n"

Hands = Mapping[str, np.ndarray]


def write_image(path: Path, *, seed: int, image_wh: tuple[int, int] = IMAGE_WH) -> Path:
    """Write a picture whose bytes depend on the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*image_wh[::-1], 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_polygons(path: Path, rows: Sequence[Hands], *, column: bool = False) -> None:
    """Write polygons.mat as EgoHands has it: a 1xN struct (Nx1 with column=True)."""
    shape = (len(rows), 1) if column else (1, len(rows))
    struct = np.zeros(shape, dtype=[(name, object) for name in HAND_FIELDS])
    for number, row in enumerate(rows):
        for name in HAND_FIELDS:
            struct[name].flat[number] = row.get(name, np.zeros((0, 0)))
    savemat(path, {"polygons": struct}, do_compression=True)


def write_video(
    folder: Path,
    rows: Sequence[Hands],
    *,
    gestures: Sequence[Mapping[str, str | None]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a video with one frame per row; frame numbers are 11, 22, ..."""
    for number in range(len(rows)):
        write_image(folder / f"frame_{11 * (number + 1):04d}.jpg", seed=seed * 1000 + number)
    write_polygons(folder / "polygons.mat", rows)
    if gestures is not None:
        content = {"schema": 1, "frames": list(gestures)}
        (folder / "gestures.json").write_text(json.dumps(content))
    return folder


def write_samples(raw: Path, videos: Sequence[str], *, frames: int = 2) -> Path:
    """Write videos with one square hand per frame below raw/_LABELLED_SAMPLES."""
    for number, video in enumerate(videos):
        rows = [{"myright": SQUARE + step} for step in range(frames)]
        write_video(raw / "_LABELLED_SAMPLES" / video, rows, seed=number + 1)
    return raw


def write_kitti(folder: Path, boxes: Mapping[str, str], *, suffix: str = ".jpg") -> Path:
    """Write images/ and labels/: label text by stem; "" = an image without a label file."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for number, (stem, text) in enumerate(boxes.items()):
        write_image(folder / "images" / f"{stem}{suffix}", seed=number + 500)
        if text:
            (folder / "labels" / f"{stem}.txt").write_text(text)
    return folder


def label(x_min: float, y_min: float, x_max: float, y_max: float, *, name: str = "hand") -> str:
    """Return one KITTI line."""
    return LABEL.format(x_min, y_min, x_max, y_max).replace("hand", name)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
