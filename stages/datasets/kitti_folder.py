"""Read a folder of images/ and KITTI labels/ that somebody else made.

Frames without a label file are negatives. Every label is checked; boxes are clipped to the image.
"""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deploy.core.kitti import label_boxes, read_labels
from stages.datasets.errors import DatasetError
from stages.datasets.frames import LabelledFrame, VideoFrames, count_fates
from stages.datasets.headers import IMAGE_SUFFIXES, read_image_size
from stages.datasets.polygons import Fate, clip_extremes

LAST_NUMBER = re.compile(r"([0-9]+)$")


def read_kitti_folder(
    folder: Path, *, hand_types: Sequence[str], video_pattern: str
) -> list[VideoFrames]:
    """Read all frames, grouped by video; video_pattern's first group in a stem is its video.

    Raises DatasetError for a stem that the pattern does not fit, two images of one stem, a label
    without an image, an unreadable image, or labels of which none is a hand; DeployError
    for a malformed label.
    """
    images = _list_images(folder / "images")
    compiled = re.compile(video_pattern)
    videos: dict[str, list[str]] = {}
    for stem in images:
        videos.setdefault(_video_of(stem, compiled, folder), []).append(stem)
    result = [
        _read_frames(folder, images, stems, video, hand_types=hand_types)
        for video, stems in sorted(videos.items())
    ]
    _check_labels(folder, images, result, hand_types)
    return result


def read_extra_folder(folder: Path, prefix: str, *, hand_types: Sequence[str]) -> VideoFrames:
    """Read a folder whose frames are for training only, as one video named `prefix`.

    Stems get `prefix`_ in front. Raises as read_kitti_folder does.
    """
    images = _list_images(folder / "images")
    read = _read_frames(folder, images, sorted(images), prefix, hand_types=hand_types)
    frames = [
        frame._replace(stem=f"{prefix}_{frame.stem}", train_only=True) for frame in read.frames
    ]
    _check_labels(folder, images, [read], hand_types)
    return read._replace(frames=frames)


def _list_images(folder: Path) -> dict[str, str]:
    """Return the path of every image by stem, sorted by stem."""
    images: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if stem in images:
            raise DatasetError(
                f"{folder} has two images {stem} ({os.path.basename(images[stem])}, {name}), "
                "expected one for each label file; remove or rename one"
            )
        images[stem] = os.path.join(folder, name)
    if not images:
        raise DatasetError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); correct dataset.path or "
            "dataset.extra_train"
        )
    return dict(sorted(images.items()))


def _video_of(stem: str, pattern: re.Pattern[str], folder: Path) -> str:
    match = pattern.search(stem)
    if match is None or not match[1]:
        raise DatasetError(
            f"{folder / 'images' / stem} does not fit dataset.video_pattern {pattern.pattern!r}, "
            "expected its first group to give the video; set dataset.video_pattern (if every "
            "image is from another scene: '^(.+)$')"
        )
    return match[1]


def _read_frames(
    folder: Path,
    images: dict[str, str],
    stems: Iterable[str],
    video: str,
    *,
    hand_types: Sequence[str],
) -> VideoFrames:
    frames, fates, ignored = [], [], 0
    for position, stem in enumerate(stems):
        size = read_image_size(images[stem])
        extremes, others = _read_hands(folder / "labels" / f"{stem}.txt", hand_types)
        boxes = clip_extremes(extremes, size)
        number = LAST_NUMBER.search(stem)
        frame = int(number[1]) if number else position
        kept = boxes.xyxy[boxes.fate <= Fate.CLIPPED]
        frames.append(LabelledFrame(stem, video, frame, False, images[stem], size, kept, {}))
        fates.append(boxes.fate)
        ignored += others
    counts = count_fates(np.concatenate(fates)) + Counter(ignored=ignored)
    return VideoFrames(video, frames, {**count_fates([]), "ignored": 0, **counts})


def _read_hands(path: Path, hand_types: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return the boxes (N, 4) of the hands in a label file, and how many other objects it has."""
    if not path.exists():
        return np.zeros((0, 4), np.float32), 0
    labels = read_labels(path)
    hands = [label for label in labels if _is_hand(label.type, hand_types)]
    return label_boxes(hands), len(labels) - len(hands)


def _is_hand(name: str, hand_types: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in hand_types)


def _check_labels(
    folder: Path,
    images: dict[str, str],
    videos: Sequence[VideoFrames],
    hand_types: Sequence[str],
) -> None:
    labels = sorted(path for path in (folder / "labels").glob("*.txt"))
    for path in labels:
        if path.stem not in images:
            raise DatasetError(
                f"{path} has no image of that name in {folder / 'images'}; bring the image or "
                "remove the label"
            )
    num_hands = sum(len(frame.xyxy) for video in videos for frame in video.frames)
    if not num_hands:
        seen = sorted({label.type for path in labels for label in read_labels(path)})
        raise DatasetError(
            f"{folder / 'labels'} holds no hand: of {len(labels)} files the types are "
            f"{', '.join(seen) or 'none'}, expected {', '.join(hand_types)}; set "
            "dataset.hand_types"
        )
