"""A picture of the drawn data for people: frames with boxes, and the six gestures on many hands.

Run: python -m stages.datasets.render.contact_sheet --out docs/images/hands.jpg
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import Job, open_scene
from stages.datasets.render.poses import GESTURES
from stages.datasets.render.video import Frame, Hand, render_frames

_MAX_BYTES = 300_000
_WIDTH = 1296
_SAMPLES = 3  # hands per gesture
_COLOURS = {
    "thumbs_up": (80, 175, 255),
    "fist": (90, 90, 240),
    "stop": (110, 200, 90),
    "ok": (230, 190, 60),
    "two": (220, 110, 200),
    "random": (200, 200, 200),
}
_UNCLEAR = (120, 120, 120)


def draw_contact_sheet(config: RenderConfig, *, num_videos: int) -> np.ndarray:
    """Draw the sheet from the first videos of train and test: (H, W, 3) uint8 BGR."""
    frames: list[Frame] = []
    crops: dict[str, list[np.ndarray]] = defaultdict(list)
    for index in range(num_videos):
        for split in ("train", "test"):
            video = list(render_frames(*_open(config, split, index)))
            frames.append(max(video, key=_interest))
            for gesture, crop in _best_crops(video):
                crops[gesture].append(crop)
    best = sorted(frames, key=_interest, reverse=True)[:6]
    return np.vstack([_frame_rows(best), _gesture_rows(crops)])


def _open(config: RenderConfig, split: str, index: int) -> tuple:
    return *open_scene(Job(config, split, index, "")), config


def _interest(frame: Frame) -> float:
    """Prefer frames with several large, named hands."""
    return sum(
        0.5 + (hand.gesture is not None) + float(np.ptp(hand.outline[:, 1])) / 540
        for hand in frame.hands
    )


def _box(hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    return hand.outline.min(axis=0), hand.outline.max(axis=0)


def _best_crops(video: list[Frame]) -> Iterator[tuple[str, np.ndarray]]:
    """One crop per gesture of a video: the sharpest unhidden hand, 1.4 times its box, square."""
    best: dict[str, tuple[float, np.ndarray]] = {}
    for frame in video:
        for hand in frame.hands:
            low, high = _box(hand)
            side = float((high - low).max())
            if hand.gesture is None or hand.visible < 0.97 or side < 90:
                continue
            if (low < 4).any() or (high > np.array(frame.image.shape[1::-1]) - 4).any():
                continue
            crop = _square(frame.image, (low + high) / 2, 0.7 * side)
            sharpness = float(cv2.Laplacian(crop, cv2.CV_32F).std())
            if sharpness > best.get(hand.gesture, (0.0, crop))[0]:
                best[hand.gesture] = (sharpness, crop)
    for gesture, (_, crop) in best.items():
        yield gesture, crop


def _square(image: np.ndarray, centre: np.ndarray, half: float) -> np.ndarray:
    size = _WIDTH // (len(GESTURES) * 2)
    scale = size / (2 * half)
    view = np.array(
        [[scale, 0, size / 2 - scale * centre[0]], [0, scale, size / 2 - scale * centre[1]]]
    )
    return cv2.warpAffine(image, view, (size, size), flags=cv2.INTER_LINEAR)


def _frame_rows(frames: list[Frame]) -> np.ndarray:
    width = _WIDTH // 3
    tiles = [
        cv2.resize(_annotate(frame), (width, width * 9 // 16), interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    return np.vstack([np.hstack(tiles[row : row + 3]) for row in range(0, len(tiles), 3)])


def _annotate(frame: Frame) -> np.ndarray:
    image = frame.image.copy()
    for hand in frame.hands:
        low, high = (tuple(int(v) for v in corner) for corner in _box(hand))
        colour = _UNCLEAR if hand.gesture is None else _COLOURS[hand.gesture]
        cv2.rectangle(image, low, high, colour, 3, cv2.LINE_AA)
        if hand.gesture is not None:
            _write(image, hand.gesture, (low[0], max(low[1] - 8, 22)), 0.8, colour)
    return image


def _write(
    image: np.ndarray, text: str, at: tuple[int, int], scale: float, colour: tuple[int, int, int]
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(image, text, at, font, scale, (20, 20, 20), 4, cv2.LINE_AA)
    cv2.putText(image, text, at, font, scale, colour, 2, cv2.LINE_AA)


def _gesture_rows(crops: dict[str, list[np.ndarray]]) -> np.ndarray:
    """A block of 2 by _SAMPLES hands per gesture, its name above."""
    size = _WIDTH // (len(GESTURES) * 2)
    blocks = []
    for gesture in GESTURES:
        head = np.full((30, 2 * size, 3), 32, np.uint8)
        _write(head, gesture, (8, 21), 0.6, _COLOURS[gesture])
        empty = np.full((size, size, 3), 60, np.uint8)
        tiles = (crops[gesture] + [empty] * (2 * _SAMPLES))[: 2 * _SAMPLES]
        rows = [np.hstack(tiles[row : row + 2]) for row in range(0, 2 * _SAMPLES, 2)]
        blocks.append(np.vstack([head, *rows]))
    return np.hstack(blocks)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of rendered hands.")
    parser.add_argument("--out", type=Path, required=True, help="where to write the .jpg")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn videos")
    parser.add_argument("--videos", type=int, default=10, help="videos per split to choose from")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    config = RenderConfig(seed=arguments.seed, frames_per_video=24)
    sheet = draw_contact_sheet(config, num_videos=arguments.videos)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for quality in (90, 84, 78, 70, 60):
        data = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= _MAX_BYTES:
            break
    arguments.out.write_bytes(data)
    print(f"{sheet.shape[1]}x{sheet.shape[0]}, {len(data)} bytes, {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
