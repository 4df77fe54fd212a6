"""Frames and boxes of a KITTI folder, decoded once, at the network's input size.

Frames are resized by the same function as in evaluation and on the device
(deploy.core.preprocess), so that training sees the same pixels. All of a split stays in memory as
bytes; a split above MEMORY_LIMIT_BYTES goes to a memory-mapped file instead.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from deploy.core.boxes import scale_boxes
from deploy.core.kitti import label_boxes, read_labels
from deploy.core.preprocess import resize_image
from stages.detectnet.errors import DetectNetError

CLASS_NAME = "hand"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MEMORY_LIMIT_BYTES = 8 << 30


@dataclass(frozen=True)
class Samples:
    """One split, in the order of stems.

    images: (N, H, W, 3) uint8 RGB at the network's input size. boxes: per frame (K, 4) float32
    xyxy in network-input pixels, K may be 0. image_wh: (N, 2) int64, the frames' own sizes.
    """

    stems: tuple[str, ...]
    images: np.ndarray
    boxes: tuple[np.ndarray, ...]
    image_wh: np.ndarray

    def __len__(self) -> int:
        return len(self.stems)

    @property
    def input_wh(self) -> tuple[int, int]:
        """Width and height of the images."""
        return (self.images.shape[2], self.images.shape[1])

    def image_boxes(self, index: int) -> np.ndarray:
        """Return frame index's boxes (K, 4) in its own pixels."""
        width, height = self.image_wh[index]
        return scale_boxes(self.boxes[index], self.input_wh, (int(width), int(height)))


def load_samples(
    kitti_dir: Path,
    stems: Sequence[str],
    *,
    input_wh: Sequence[int],
    cache_dir: Path | None = None,
    desc: str = "frames",
) -> Samples:
    """Decode the frames of the stems, in parallel threads, and read their labels.

    kitti_dir holds images/ and labels/. cache_dir: where a memory-mapped file may go.
    Raises DetectNetError for no stems, a frame that is missing or unreadable; DeployError (also a
    UserError) for a missing or malformed label file.
    """
    if not stems:
        raise DetectNetError(
            f"{desc}: no frames are listed; expected at least one; check the split stage's lists"
        )
    paths = _find_images(kitti_dir, stems)
    size_wh = (int(input_wh[0]), int(input_wh[1]))
    images = _allocate((len(stems), size_wh[1], size_wh[0], 3), cache_dir, desc)

    def load(index: int) -> tuple[np.ndarray, tuple[int, int]]:
        image_wh = _decode_into(images[index], paths[index], size_wh)
        labels = read_labels(kitti_dir / "labels" / f"{stems[index]}.txt")
        boxes = label_boxes(labels, class_name=CLASS_NAME)
        return scale_boxes(boxes, image_wh, size_wh), image_wh

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loaded = pool.map(load, range(len(stems)))
        rows = list(tqdm(loaded, total=len(stems), desc=desc, unit="frame", disable=None))
    boxes, sizes = zip(*rows, strict=True)
    return Samples(tuple(stems), images, tuple(boxes), np.array(sizes, dtype=np.int64))


def require_boxes(samples: Samples, kitti_dir: Path) -> Samples:
    """Return the samples unchanged; raise DetectNetError when none has a box of the class."""
    if any(len(boxes) for boxes in samples.boxes):
        return samples
    paths = (kitti_dir / "labels" / f"{stem}.txt" for stem in samples.stems)
    seen = sorted({label.type for path in paths for label in read_labels(str(path))})
    raise DetectNetError(
        f"none of the {len(samples)} frames to train on has a box of the class {CLASS_NAME!r}, "
        f"their labels have {', '.join(seen) or 'no box at all'}; rename the class in the "
        "dataset's labels, or correct the split"
    )


def pad_boxes(boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Stack the boxes of N frames: (N, M, 4) float32 padded with 0, and is_box (N, M); M >= 1."""
    most = max(1, max((len(frame) for frame in boxes), default=0))
    padded = np.zeros((len(boxes), most, 4), dtype=np.float32)
    is_box = np.zeros((len(boxes), most), dtype=bool)
    for index, frame in enumerate(boxes):
        padded[index, : len(frame)] = frame
        is_box[index, : len(frame)] = True
    return padded, is_box


def _find_images(kitti_dir: Path, stems: Sequence[str]) -> list[Path]:
    """Map stems to files, listing the folder once."""
    folder = kitti_dir / "images"
    if not folder.is_dir():
        raise DetectNetError(f"{folder} is no folder; expected frames; run the convert stage")
    known: Mapping[str, Path] = {
        path.stem: path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
    }
    missing = [stem for stem in stems if stem not in known]
    if missing:
        raise DetectNetError(
            f"{folder} lacks {len(missing)} of {len(stems)} listed frames, the first is "
            f"{missing[0]!r}; run the convert and split stages again"
        )
    return [known[stem] for stem in stems]


def _allocate(shape: tuple[int, ...], cache_dir: Path | None, name: str) -> np.ndarray:
    if cache_dir is None or int(np.prod(shape)) <= MEMORY_LIMIT_BYTES:
        return np.empty(shape, dtype=np.uint8)
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f"{name.replace(' ', '_')}.npy"
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _decode_into(target: np.ndarray, path: Path, size_wh: tuple[int, int]) -> tuple[int, int]:
    """Decode, resize and turn to RGB; returns the frame's own width and height."""
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise DetectNetError(
            f"{path} cannot be decoded; expected a JPEG or PNG frame; restore or remove it and "
            "run the convert stage again"
        )
    height, width = image_bgr.shape[:2]
    target[...] = resize_image(image_bgr, input_wh=size_wh, resize="stretch")[..., ::-1]
    return (width, height)
