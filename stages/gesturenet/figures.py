"""Pictures of a classifier: confusion matrix, reliability, and crops with the answers."""

from pathlib import Path

import cv2
import numpy as np

from stages.gesturenet.config import GESTURES
from stages.gesturenet.crops import Crops
from stages.gesturenet.metrics import CalibrationBins

COLUMNS, ROWS = 8, 5
TILE_PX = 144
CAPTION_PX = 36
JPEG_QUALITY = 90
# BGR. A wrong answer has its outline; a caption says answer and confidence, and below the label
# where it differs.
WRONG_BGR = (60, 60, 230)
TEXT_BGR = (235, 235, 235)
PAPER_BGR = (32, 32, 32)
# At most this share of the grid is given to wrong answers, so that the rest shows what is usual.
WRONG_FRAC = 0.3


def save_confusion(path: Path, confusion: np.ndarray) -> None:
    """Draw a confusion matrix (C, C), rows = actual class: counts, coloured by row share."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6.2, 5.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(GESTURES))
    axes.set_xticks(ticks, GESTURES, rotation=30)
    axes.set_yticks(ticks, GESTURES)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    axes.set_title(f"Gestures of {int(confusion.sum())} test crops")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the actual class")
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def save_reliability(path: Path, bins: CalibrationBins) -> None:
    """Draw how often answers are right against how sure they are, and how many there are of each.

    Source of the diagram: Guo et al. 2017, arXiv 1706.04599.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 1.0 / len(bins.num_answers)
    middle = (np.arange(len(bins.num_answers)) + 0.5) * width
    is_there = bins.num_answers > 0
    figure = Figure(figsize=(5.4, 5.4), dpi=110, layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.bar(middle[is_there], bins.accuracy[is_there], width, color="#9ecae1", edgecolor="white")
    axes.plot([0, 1], [0, 1], color="#777777", linestyle="--", label="perfectly calibrated")
    axes.plot(bins.confidence[is_there], bins.accuracy[is_there], "o", color="#08519c")
    axes.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Reliability on {int(bins.num_answers.sum())} test crops")
    axes.legend(loc="upper left")
    below.bar(middle, bins.num_answers, width, color="#9ecae1", edgecolor="white")
    below.set(xlabel="confidence", ylabel="crops")
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def save_samples(path: Path, crops: Crops, probabilities: np.ndarray) -> None:
    """Draw a grid of crops with answer and confidence; wrong ones come first and are outlined.

    probabilities: (N, C). The others are spread evenly over the crops; N may be 0.
    """
    tiles = [_draw_tile(crops, probabilities, index) for index in _choose(crops, probabilities)]
    blank = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), PAPER_BGR, np.uint8)
    tiles += [blank] * (-len(tiles) % COLUMNS or (0 if tiles else COLUMNS))
    rows = [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]
    encoded, data = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert encoded, "a uint8 BGR picture always encodes"
    path.write_bytes(data.tobytes())


def _choose(crops: Crops, probabilities: np.ndarray) -> list[int]:
    is_wrong = probabilities.argmax(axis=1) != crops.class_id
    wrong = _spread(np.flatnonzero(is_wrong), int(WRONG_FRAC * COLUMNS * ROWS))
    right = _spread(np.flatnonzero(~is_wrong), COLUMNS * ROWS - len(wrong))
    return [*wrong, *right]


def _spread(indices: np.ndarray, most: int) -> list[int]:
    """Take at most `most` indices at equal distances."""
    places = np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)
    return [int(index) for index in indices[places]]


def _draw_tile(crops: Crops, probabilities: np.ndarray, index: int) -> np.ndarray:
    answer, actual = int(probabilities[index].argmax()), int(crops.class_id[index])
    tile = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), PAPER_BGR, np.uint8)
    inner = TILE_PX - 8
    tile[4 : 4 + inner, 4 : 4 + inner] = cv2.resize(crops.images[index], (inner, inner))
    _write_inplace(tile, f"{GESTURES[answer]} {probabilities[index, answer]:.2f}", row=0)
    if answer != actual:
        _write_inplace(tile, f"is {GESTURES[actual]}", row=1)
        cv2.rectangle(tile, (2, 2), (TILE_PX - 3, TILE_PX - 3), WRONG_BGR, 3)
    return tile


def _write_inplace(tile: np.ndarray, text: str, *, row: int) -> None:
    place = (5, TILE_PX + 12 + 16 * row)
    colour = WRONG_BGR if row else TEXT_BGR
    cv2.putText(tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
