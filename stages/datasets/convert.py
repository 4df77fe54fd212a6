"""Write frames as a KITTI folder: hard-linked images, labels, index.csv and gestures.csv."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from deploy.core.kitti import format_labels, hand_label
from stages.datasets.config import DatasetConfig
from stages.datasets.egohands import list_videos, read_video
from stages.datasets.errors import DatasetError
from stages.datasets.frames import LabelledFrame, VideoFrames
from stages.datasets.index import GestureRow, IndexRow, write_gestures, write_index
from stages.datasets.kitti_folder import read_extra_folder, read_kitti_folder
from stages.datasets.raw import DRAWN, EXTRA_TRAIN, SAMPLES
from stages.datasets.trees import link_or_copy


class ConvertReport(NamedTuple):
    """Counts by name (images, boxes, negatives, gestures, clipped, ...), in all and by video."""

    total: dict[str, int]
    per_video: dict[str, dict[str, int]]

    def as_metrics(self) -> dict[str, Any]:
        """Return what results/convert.json holds."""
        rows = [{"video": video, **counts} for video, counts in self.per_video.items()]
        return {**self.total, "videos": len(rows), "per_video": rows}


def convert_dataset(config: DatasetConfig, raw: Path, kitti: Path) -> ConvertReport:
    """Convert data/raw as download leaves it; `kitti` is an empty folder.

    Raises DatasetError or DeployError for what a person can mend in the files, before or while
    writing.
    """
    return write_kitti(_read_raw(config, raw), kitti)


def write_kitti(videos: Iterable[VideoFrames], kitti: Path) -> ConvertReport:
    """Write videos one after the other; an image is a hard link and never changed.

    Raises DatasetError for two frames of one name.
    """
    for name in ("images", "labels"):
        (kitti / name).mkdir()
    index: list[IndexRow] = []
    gestures: list[GestureRow] = []
    per_video: dict[str, dict[str, int]] = {}
    for video in videos:
        for frame in video.frames:
            _write_frame(frame, kitti)
        index += [_index_row(frame) for frame in video.frames]
        gestures += [row for frame in video.frames for row in _gesture_rows(frame)]
        per_video[video.name] = _count(video)
    write_index(kitti / "index.csv", index)
    write_gestures(kitti / "gestures.csv", gestures)
    total: Counter[str] = Counter()
    for counts in per_video.values():
        total.update(counts)
    return ConvertReport(dict(total), per_video)


def _read_raw(config: DatasetConfig, raw: Path) -> Iterator[VideoFrames]:
    if config.kind == "kitti":
        yield from read_kitti_folder(
            raw, hand_types=config.hand_types, video_pattern=config.video_pattern
        )
    else:
        folders = list_videos(raw / SAMPLES)
        for folder in tqdm(folders, desc="convert", unit="video", disable=None):
            yield read_video(folder)
    if config.drawn:
        for folder in list_videos(raw / DRAWN / SAMPLES):
            yield read_video(folder, train_only=folder.name.startswith("TRAIN_"))
    for number in range(len(config.extra_train)):
        folder = raw / EXTRA_TRAIN / str(number)
        yield read_extra_folder(folder, f"EXTRA{number}", hand_types=config.hand_types)


def _write_frame(frame: LabelledFrame, kitti: Path) -> None:
    suffix = os.path.splitext(frame.image)[1].lower()
    text = format_labels([hand_label(box) for box in frame.xyxy.tolist()])
    try:
        # Half the time of open(): the label files are most of what there is to write.
        file = os.open(
            f"{kitti}/labels/{frame.stem}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666
        )
    except FileExistsError as error:
        raise DatasetError(
            f"two frames would be named {frame.stem} (one is {frame.image}); rename one, or its "
            "video"
        ) from error
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)
    link_or_copy(frame.image, f"{kitti}/images/{frame.stem}{suffix}")


def _index_row(frame: LabelledFrame) -> IndexRow:
    return IndexRow(frame.stem, frame.video, frame.frame, *frame.image_wh, frame.train_only)


def _gesture_rows(frame: LabelledFrame) -> list[GestureRow]:
    return [GestureRow(frame.stem, row, name) for row, name in frame.gestures.items()]


def _count(video: VideoFrames) -> dict[str, int]:
    return {
        "images": len(video.frames),
        "boxes": sum(len(frame.xyxy) for frame in video.frames),
        "negatives": sum(not len(frame.xyxy) for frame in video.frames),
        "gestures": sum(len(frame.gestures) for frame in video.frames),
        **video.fates,
    }
