"""Where the joints of the hands in crops of one's own are: the table joints.csv.

Columns: path (<class>/<file>, below the class folders), handedness (left or right), score, and x0,
y0 to x20, y20, fractions of the picture's width and height in the order of crops.NUM_JOINTS.
`python -m stages.gesturenet.find_joints` writes it with a hand tracker; so may anything else.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.gesturenet.crops import NUM_JOINTS
from stages.gesturenet.errors import GestureError

# How far the hand reaches beyond its joints, as a share of the palm: of drawn hands, whose joints
# and boxes are both known, the longer side is then right within 5 % for each gesture's median.
MARGIN_FRAC = 0.115
# The palm is seen from its front or its end: wrist to middle finger's root, or its breadth.
WRIST, INDEX_ROOT, MIDDLE_ROOT, LITTLE_ROOT = 0, 5, 9, 17
LENGTH_BY_BREADTH = 1.3
COLUMNS = (
    "path",
    "handedness",
    "score",
    *(f"{axis}{joint}" for joint in range(NUM_JOINTS) for axis in "xy"),
)


class JointRow(NamedTuple):
    """The joints (21, 2) of the hand in a crop; score in [0, 1], how sure the tracker is."""

    path: str
    handedness: str
    score: float
    joints: np.ndarray


def write_joints(path: Path, rows: Iterable[JointRow]) -> None:
    """Write a table, ordered by path, with four digits."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(rows, key=lambda row: row.path):
            places = [f"{value:.4f}" for value in row.joints.ravel()]
            writer.writerow([row.path, row.handedness, f"{row.score:.4f}", *places])


def read_joints(path: Path) -> dict[str, np.ndarray]:
    """Return the joints (21, 2) float32 of each crop of the table, by path.

    Raises GestureError for a file that is missing, or no such table.
    """
    try:
        with path.open(newline="") as stream:
            header, *rows = csv.reader(stream)
        if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
            raise ValueError(f"expected the columns {', '.join(COLUMNS[:5])} to {COLUMNS[-1]}")
        return {row[0]: np.array(row[3:], np.float32).reshape(NUM_JOINTS, 2) for row in rows}
    except (OSError, ValueError) as error:
        raise GestureError(
            f"{path} is no table of joints ({error}); write it with "
            "python -m stages.gesturenet.find_joints, or set gesture.folders.joints to null"
        ) from error


def hand_box(joints: np.ndarray) -> np.ndarray:
    """Return the tight box (4,) xyxy float32 of a hand by its joints (21, 2), in their units."""
    low, high = joints.min(axis=0), joints.max(axis=0)
    length = np.hypot(*(joints[MIDDLE_ROOT] - joints[WRIST]))
    breadth = np.hypot(*(joints[LITTLE_ROOT] - joints[INDEX_ROOT]))
    margin = MARGIN_FRAC * max(length, LENGTH_BY_BREADTH * breadth)
    return np.concatenate([low - margin, high + margin]).astype(np.float32)
