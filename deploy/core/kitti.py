"""KITTI object labels: one line per object, 15 columns (16 with a score), separated by spaces.

Columns: type truncated occluded alpha bbox(4) dimensions(3) location(3) rotation_y [score].
Source: KITTI object development kit, readme.txt. TAO asserts exactly 15 columns when it trains.
"""

import math
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from deploy.core.boxes import as_xyxy
from deploy.core.errors import DeployError

NUM_COLUMNS = 15


class KittiLabel(NamedTuple):
    """One object; bbox is x_min, y_min, x_max, y_max in pixels, lengths in m, angles in rad."""

    type: str
    truncated: float
    occluded: int
    alpha: float
    bbox: Tuple[float, float, float, float]
    dimensions: Tuple[float, float, float]
    location: Tuple[float, float, float]
    rotation_y: float
    score: Optional[float] = None


def parse_labels(text: str, *, source: str, allow_score: bool = False) -> List[KittiLabel]:
    """Read the text of one label file; empty lines are skipped, empty text gives [].

    source names the file in messages. allow_score also takes a 16th column (predictions).
    Raises DeployError naming file and line: number of columns, no finite number, inverted box.
    """
    labels = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if columns:
            where = f"{source}:{number}"
            labels.append(_parse_columns(columns, where, allow_score=allow_score))
    return labels


def read_labels(path: Union[str, Path], *, allow_score: bool = False) -> List[KittiLabel]:
    """Read one label file. Raises DeployError when it is missing, no text, or malformed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: cannot be read as a KITTI label file: {error}") from None
    return parse_labels(text, source=str(path), allow_score=allow_score)


def format_labels(labels: Sequence[KittiLabel]) -> str:
    """Write labels with 2 decimals, one line each with a newline; "" for no labels.

    A score, where there is one, is the 16th column with 6 decimals.
    """
    return "".join(_format_label(label) + "\n" for label in labels)


def hand_label(xyxy: Sequence[float], *, score: Optional[float] = None) -> KittiLabel:
    """Make the label of one hand: class hand, the box, and 0 in every column of the 3D object."""
    x_min, y_min, x_max, y_max = (float(value) for value in xyxy)
    zeros = (0.0, 0.0, 0.0)
    return KittiLabel("hand", 0.0, 0, 0.0, (x_min, y_min, x_max, y_max), zeros, zeros, 0.0, score)


def label_boxes(labels: Sequence[KittiLabel], *, class_name: Optional[str] = None) -> np.ndarray:
    """Return the boxes as xyxy (N, 4) float32 in file order; only class_name's where one is given.

    Class names are compared without regard to case, as TAO does.
    """
    wanted = None if class_name is None else class_name.lower()
    return as_xyxy([x.bbox for x in labels if wanted is None or x.type.lower() == wanted])


def _parse_columns(columns: List[str], where: str, *, allow_score: bool) -> KittiLabel:
    allowed = (NUM_COLUMNS, NUM_COLUMNS + 1) if allow_score else (NUM_COLUMNS,)
    if len(columns) not in allowed:
        raise DeployError(
            "{}: {} columns; expected {} (type truncated occluded alpha bbox*4 dimensions*3 "
            "location*3 rotation_y); correct this line or run the convert stage again".format(
                where, len(columns), " or ".join(str(count) for count in allowed)
            )
        )
    numbers = [_parse_number(text, where) for text in columns[1:]]
    if numbers[5] < numbers[3] or numbers[6] < numbers[4]:
        raise DeployError(
            "{}: box {} is inverted; expected x_min y_min x_max y_max; correct this line".format(
                where, " ".join(columns[4:8])
            )
        )
    return KittiLabel(
        type=columns[0],
        truncated=numbers[0],
        occluded=int(numbers[1]),
        alpha=numbers[2],
        bbox=(numbers[3], numbers[4], numbers[5], numbers[6]),
        dimensions=(numbers[7], numbers[8], numbers[9]),
        location=(numbers[10], numbers[11], numbers[12]),
        rotation_y=numbers[13],
        score=numbers[14] if len(numbers) > 14 else None,
    )


def _parse_number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DeployError(
            f"{where}: {text!r} is not a finite number; expected numbers in all columns but the "
            "first; correct this line"
        )
    return value


def _format_label(label: KittiLabel) -> str:
    head = f"{label.type} {label.truncated:.2f} {label.occluded:d} {label.alpha:.2f}"
    tail = (*label.bbox, *label.dimensions, *label.location, label.rotation_y)
    line = head + "".join(f" {value:.2f}" for value in tail)
    return line if label.score is None else line + f" {label.score:.6f}"
