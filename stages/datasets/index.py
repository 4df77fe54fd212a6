"""The tables beside the converted frames: index.csv, gestures.csv and the lists of the split.

data/kitti/index.csv    stem,video,frame,width,height,train_only (0 or 1), sorted by stem
data/kitti/gestures.csv stem,row,gesture: row = 0-based line of the hand in labels/<stem>.txt
data/split/<side>.txt   one stem a line, sorted
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.datasets.errors import DatasetError
from stages.datasets.headers import IMAGE_SUFFIXES

INDEX_COLUMNS = ("stem", "video", "frame", "width", "height", "train_only")
GESTURE_COLUMNS = ("stem", "row", "gesture")


class IndexRow(NamedTuple):
    """One frame of index.csv; frame is its number in the video, width and height are pixels."""

    stem: str
    video: str
    frame: int
    width: int
    height: int
    train_only: bool


class GestureRow(NamedTuple):
    """One hand of gestures.csv."""

    stem: str
    row: int
    gesture: str


def write_index(path: Path, rows: Iterable[IndexRow]) -> None:
    """Write index.csv, sorted by stem."""
    plain = [(*row[:5], int(row.train_only)) for row in sorted(rows)]
    _write_table(path, INDEX_COLUMNS, plain)


def read_index(path: Path) -> list[IndexRow]:
    """Read index.csv; DatasetError when it is missing or no such table."""
    return [
        IndexRow(stem, video, int(frame), int(width), int(height), train_only == "1")
        for stem, video, frame, width, height, train_only in _read_table(path, INDEX_COLUMNS)
    ]


def write_gestures(path: Path, rows: Iterable[GestureRow]) -> None:
    """Write gestures.csv, sorted by stem and row."""
    _write_table(path, GESTURE_COLUMNS, sorted(rows))


def read_gestures(path: Path) -> list[GestureRow]:
    """Read gestures.csv; DatasetError when it is missing or no such table."""
    return [
        GestureRow(stem, int(row), gesture)
        for stem, row, gesture in _read_table(path, GESTURE_COLUMNS)
    ]


def write_stems(path: Path, stems: Iterable[str]) -> None:
    """Write a list of stems, sorted, one a line."""
    path.write_text("".join(f"{stem}\n" for stem in sorted(stems)))


def read_stems(path: Path) -> list[str]:
    """Read a list of stems; DatasetError when it is missing."""
    try:
        return path.read_text().split()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror}); run the split stage again"
        ) from error


def find_image(kitti: Path, stem: str) -> Path:
    """Return the picture of a stem (.jpg, .jpeg or .png); DatasetError when there is none."""
    for suffix in IMAGE_SUFFIXES:
        path = kitti / "images" / f"{stem}{suffix}"
        if path.exists():
            return path
    raise DatasetError(
        f"{kitti / 'images' / stem} has no picture ({', '.join(IMAGE_SUFFIXES)}); run the "
        "convert stage again"
    )


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _read_table(path: Path, columns: Sequence[str]) -> list[list[str]]:
    try:
        with path.open(newline="") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}); run the convert stage again"
        ) from error
    if tuple(header) != tuple(columns) or any(len(row) != len(columns) for row in rows):
        raise DatasetError(
            f"{path} has the columns {','.join(header)}, expected {','.join(columns)}; run the "
            "convert stage again"
        )
    return rows
