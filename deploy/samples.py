"""Pictures of what a detector does: its worst, middling and best frames, truth and detections.

Truth is green; detections are orange with their confidence.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from deploy.core.average_precision import evaluate_detections
from deploy.core.boxes import Detections, take_detections
from deploy.core.preprocess import boxes_to_input, place_image
from deploy.frames import Frame, group_by_video, read_image
from deploy.overlay import GREEN, INK, ORANGE, draw_caption, draw_detections

GROUPS = ("worst", "median", "best")
SHEET_NAME = "samples.jpg"
TILE_WH = (640, 360)
GAP = 8  # pixels between the tiles of a sheet


class Sample(NamedTuple):
    """A frame to show: its group (worst, median, best) and F1 at IoU 0.5."""

    frame: Frame
    group: str
    f1: float


def choose_samples(
    frames: Sequence[Frame],
    predictions: Mapping[str, Detections],
    *,
    count: int,
    confidence_threshold: float,
) -> List[Sample]:
    """Choose count frames by F1: a third each of the worst, the middle and the best, so ordered.

    Frames without a true box are left out, unless nothing else is there. Among equals those with
    more hands come first, but no quarter of a video shows a second frame before all had their
    first.
    """
    pool = [frame for frame in frames if len(frame.truth)] or list(frames)
    scores = {frame.stem: _score(frame, predictions, confidence_threshold) for frame in pool}
    ranked = sorted(pool, key=lambda f: (scores[f.stem], -len(f.truth), f.stem))
    count = min(count, len(ranked))
    num_worst, num_best = (count + 2) // 3, count // 3
    worst = _spread(ranked, num_worst)
    best = _spread(_without(_best_first(ranked, scores), worst), num_best)
    middle = _spread(
        _without(_middle_first(ranked), [*worst, *best]), count - num_worst - num_best
    )
    return [
        Sample(frame, group, scores[frame.stem])
        for group, chosen in zip(GROUPS, (worst, middle, best))
        for frame in chosen
    ]


def draw_sample(
    sample: Sample,
    detections: Detections,
    *,
    confidence_threshold: float,
    tile_wh: Optional[Tuple[int, int]] = None,
) -> np.ndarray:
    """Return the frame's picture with truth, confident detections and a caption.

    tile_wh: first bring the picture to this size, keeping its aspect, so that lines and letters
    suit the tile; by default it keeps its own size.
    """
    image = read_image(sample.frame.image_path)
    image_wh = (image.shape[1], image.shape[0])
    shown = take_detections(detections, detections.confidence >= confidence_threshold)
    truth, found = sample.frame.truth, shown.xyxy
    if tile_wh is not None:
        how: Dict[str, Any] = {"input_wh": tile_wh, "image_wh": image_wh, "resize": "letterbox"}
        truth, found = boxes_to_input(truth, **how), boxes_to_input(found, **how)
        image = _fit(image, tile_wh)
    image = draw_detections(image, truth, [""] * len(truth), colors=GREEN)
    texts = [f"{value:.2f}" for value in shown.confidence]
    image = draw_detections(image, found, texts, colors=ORANGE)
    return draw_caption(image, f"{sample.group}  F1 {sample.f1:.2f}  {sample.frame.stem}")


def draw_sheet(
    samples: Sequence[Sample],
    predictions: Mapping[str, Detections],
    *,
    confidence_threshold: float,
    tile_wh: Tuple[int, int] = TILE_WH,
) -> np.ndarray:
    """Return all samples as one grid of tiles, at most four side by side, on a dark ground.

    Without samples it is one empty tile.
    """
    columns = min(max(len(samples), 1), 4)
    rows = max(-(-len(samples) // columns), 1)
    step_x, step_y = tile_wh[0] + GAP, tile_wh[1] + GAP
    sheet = np.full((rows * step_y - GAP, columns * step_x - GAP, 3), INK, dtype=np.uint8)
    for index, sample in enumerate(samples):
        top, left = index // columns * step_y, index % columns * step_x
        sheet[top : top + tile_wh[1], left : left + tile_wh[0]] = draw_sample(
            sample,
            predictions[sample.frame.stem],
            confidence_threshold=confidence_threshold,
            tile_wh=tile_wh,
        )
    return sheet


def write_samples(
    folder: Path,
    frames: Sequence[Frame],
    predictions: Mapping[str, Detections],
    *,
    count: int,
    confidence_threshold: float,
) -> List[Path]:
    """Write one JPEG per sample and a sheet of all into folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = choose_samples(
        frames, predictions, count=count, confidence_threshold=confidence_threshold
    )
    sheet = draw_sheet(samples, predictions, confidence_threshold=confidence_threshold)
    pictures = {SHEET_NAME: sheet}
    for index, sample in enumerate(samples):
        found = predictions[sample.frame.stem]
        name = f"{index:02d}_{sample.group}_{sample.frame.stem}.jpg"
        pictures[name] = draw_sample(sample, found, confidence_threshold=confidence_threshold)
    for name, picture in pictures.items():
        (folder / name).write_bytes(encode_jpeg(picture))
    return [folder / name for name in pictures]


def encode_jpeg(picture: np.ndarray, *, quality: int = 90) -> bytes:
    """Return the JPEG bytes of a BGR picture."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot encode a picture of shape {picture.shape}")
    return data.tobytes()


def _score(
    frame: Frame, predictions: Mapping[str, Detections], confidence_threshold: float
) -> float:
    metrics = evaluate_detections(
        {frame.stem: predictions[frame.stem]},
        {frame.stem: frame.truth},
        confidence_threshold=confidence_threshold,
    )
    return metrics.f1


def _spread(ranked: Sequence[Frame], count: int) -> List[Frame]:
    """Take the first count frames, but from as many videos and parts of videos as there are."""
    parts = _parts([frame.stem for frame in ranked])
    seen: Dict[Tuple[str, ...], int] = {}
    turns = []
    for rank, frame in enumerate(ranked):
        video, part = parts[frame.stem]
        turns.append((seen.get((video, part), 0), seen.get((video,), 0), rank))
        for key in ((video,), (video, part)):
            seen[key] = seen.get(key, 0) + 1
    return [ranked[rank] for rank in sorted(turn[-1] for turn in sorted(turns)[:count])]


def _parts(stems: Sequence[str]) -> Dict[str, Tuple[str, str]]:
    """Return for each image its video and which quarter of it the image is in."""
    return {
        stem: (video, str(4 * index // len(members)))
        for video, members in group_by_video(stems).items()
        for index, stem in enumerate(members)
    }


def _best_first(ranked: Sequence[Frame], scores: Mapping[str, float]) -> List[Frame]:
    return sorted(ranked, key=lambda f: (-scores[f.stem], -len(f.truth), f.stem))


def _middle_first(ranked: Sequence[Frame]) -> List[Frame]:
    centre = len(ranked) // 2
    order = sorted(range(len(ranked)), key=lambda rank: (abs(rank - centre), rank))
    return [ranked[rank] for rank in order]


def _without(frames: Sequence[Frame], taken: Sequence[Frame]) -> List[Frame]:
    stems = {frame.stem for frame in taken}
    return [frame for frame in frames if frame.stem not in stems]


def _fit(picture: np.ndarray, tile_wh: Tuple[int, int]) -> np.ndarray:
    """Shrink or grow a picture into the middle of a dark tile."""
    place = place_image((picture.shape[1], picture.shape[0]), tile_wh, "letterbox")
    tile = np.full((tile_wh[1], tile_wh[0], 3), INK, dtype=np.uint8)
    left, top = place.corner_xy
    tile[top : top + place.size_wh[1], left : left + place.size_wh[0]] = cv2.resize(
        picture, place.size_wh, interpolation=cv2.INTER_AREA
    )
    return tile
