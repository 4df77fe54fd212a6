"""Labelled images on disk: a folder of pictures and one of KITTI label files of the same names."""

import re
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from deploy.core.errors import DeployError
from deploy.core.kitti import label_boxes, read_labels

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")


class Frame(NamedTuple):
    """One labelled image: stem names it, truth is xyxy (N, 4) in its pixels."""

    stem: str
    image_path: Path
    truth: np.ndarray


def find_frames(
    images: Path,
    labels: Path,
    *,
    class_name: Optional[str] = None,
    stems: Optional[Sequence[str]] = None,
    limit: Optional[int] = None,
) -> List[Frame]:
    """List the images of a KITTI folder with their true boxes, sorted by name.

    class_name: only this class is true, all by default. stems: only these images. limit: that many
    images, evenly spaced over the list.
    Raises DeployError: no folder, no image, an image without label file, a malformed label.
    """
    paths = _images_by_stem(Path(images))
    wanted = sorted(paths if stems is None else stems)
    missing = [stem for stem in wanted if stem not in paths]
    if missing:
        raise DeployError(
            f"{images}: {len(missing)} of {len(wanted)} images are missing, the first is "
            f"{missing[0]}; run the convert stage again"
        )
    if limit is not None and limit < len(wanted):
        wanted = [wanted[n * len(wanted) // limit] for n in range(limit)]
    return [_read_frame(stem, paths[stem], Path(labels), class_name) for stem in wanted]


def group_by_video(
    stems: Sequence[str], videos: Optional[Mapping[str, str]] = None
) -> Dict[str, List[str]]:
    """Group image names by video, sorted.

    Without videos the video is the name up to its last number, `<VIDEO>_frame_0011` or
    `<video>_0011`, or "all" for a name that is only a number.
    """
    groups: Dict[str, List[str]] = {}
    for stem in sorted(stems):
        video = videos[stem] if videos else re.sub(r"[_-]?(frame)?[_-]?\d+$", "", stem) or "all"
        groups.setdefault(video, []).append(stem)
    return dict(sorted(groups.items()))


def read_image(path: Path) -> np.ndarray:
    """Read a picture (H, W, 3) uint8 BGR. Raises DeployError when OpenCV cannot."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DeployError(f"{path}: cannot be read as an image; replace it or take it out")
    return image


def _images_by_stem(folder: Path) -> Dict[str, Path]:
    if not folder.is_dir():
        raise DeployError(f"{folder}: no such folder; expected a folder of images")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    if not found:
        raise DeployError(f"{folder}: no image; expected files {', '.join(IMAGE_SUFFIXES)}")
    return found


def _read_frame(stem: str, path: Path, labels: Path, class_name: Optional[str]) -> Frame:
    label_path = labels / (stem + ".txt")
    if not label_path.is_file():
        raise DeployError(
            f"{label_path}: no label file for {path.name}; add it, empty for an image without "
            "objects"
        )
    return Frame(stem, path, label_boxes(read_labels(label_path), class_name=class_name))
