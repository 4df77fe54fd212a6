"""Find the joints of the hands in crops of one's own with a hand tracker: writes joints.csv.

Run: .work/peers/bin/python -m stages.gesturenet.find_joints --crops DIR --out joints.csv
(environment of benchmarks/peers.sh; 2,700 crops in a minute on one core). The tracker is MediaPipe
Hands 0.10.21, which nothing else of this project needs: with gesture.folders.joints=joints.csv the
crops get tight boxes, and the classifier learns the joints beside the gesture. Crops in which no
hand is found near the middle are left out, and stay as they were without the table.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from stages.gesturenet.crop_folders import list_pictures
from stages.gesturenet.errors import GestureError
from stages.gesturenet.joint_table import JointRow, write_joints

# The tracker misses hands that fill the picture, and small ones: it gets several views of a crop.
VIEWS = ((0.25, 384), (0.0, 384), (0.6, 512), (0.25, 224))  # margin in crop sides, side in pixels
MAX_OFFSET_FRAC = 0.3  # of the crop's side, between its middle and that of the hand
MIN_DETECTION_CONFIDENCE = 0.3


class Found(NamedTuple):
    """A hand of a picture: joints (21, 2) in fractions of its sides, handedness, score."""

    joints: np.ndarray
    handedness: str
    score: float


Track = Callable[[np.ndarray], list[Found]]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m stages.gesturenet.find_joints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--crops", type=Path, required=True, help="class folders")
    parser.add_argument("--out", type=Path, required=True, help="joints.csv")
    args = parser.parse_args(argv)
    try:
        paths = list_pictures(args.crops)
        rows = find_rows(paths, open_tracker())
    except GestureError as error:
        sys.stderr.write(f"find_joints: {error}\n")
        return 1
    write_joints(args.out, rows)
    sys.stderr.write(f"{len(rows)} of {len(paths)} crops -> {args.out}\n")
    return 0


def open_tracker() -> Track:
    """Return MediaPipe Hands as a function of an RGB picture. Raises GestureError without it."""
    try:
        from mediapipe.python.solutions.hands import Hands
    except ImportError as error:
        raise GestureError(
            f"MediaPipe cannot be imported ({error}); run it with the Python of "
            "benchmarks/peers.sh: .work/peers/bin/python"
        ) from error
    hands = Hands(
        static_image_mode=True,
        max_num_hands=2,
        min_detection_confidence=MIN_DETECTION_CONFIDENCE,
    )

    def track(image: np.ndarray) -> list[Found]:
        return read_answer(hands.process(image))

    return track


def read_answer(answer: Any) -> list[Found]:
    """Turn MediaPipe's answer into hands."""
    marks = answer.multi_hand_landmarks or []
    sides = answer.multi_handedness or []
    found = []
    for hand, side in zip(marks, sides, strict=True):
        joints = np.array([(mark.x, mark.y) for mark in hand.landmark], np.float64)
        best = side.classification[0]
        found.append(Found(joints, best.label.lower(), float(best.score)))
    return found


def find_rows(paths: Sequence[Path], track: Track) -> list[JointRow]:
    """Return the rows of the crops in which the tracker finds a hand.

    Raises GestureError for a picture that cannot be decoded.
    """
    rows = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise GestureError(f"{path} cannot be decoded as a picture; restore or remove it")
        hand = find_hand(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), track)
        if hand is not None:
            name = f"{path.parent.name}/{path.name}"
            rows.append(JointRow(name, hand.handedness, hand.score, hand.joints))
    return rows


def find_hand(image: np.ndarray, track: Track) -> Found | None:
    """Return the hand nearest to the middle of a picture (H, W, 3), by the first view that has
    one; None where there is none within MAX_OFFSET_FRAC."""
    for margin, side_px in VIEWS:
        found = [_unpad(hand, margin) for hand in track(_pad(image, margin, side_px))]
        offsets = [float(np.hypot(*(_middle(hand.joints) - 0.5))) for hand in found]
        if offsets and min(offsets) <= MAX_OFFSET_FRAC:
            return found[int(np.argmin(offsets))]
    return None


def _pad(image: np.ndarray, margin: float, side_px: int) -> np.ndarray:
    """Repeat the border by a margin in sides, and resize to a square."""
    height, width = image.shape[:2]
    rows, columns = round(margin * height), round(margin * width)
    padded = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_REPLICATE)
    return cv2.resize(padded, (side_px, side_px), interpolation=cv2.INTER_CUBIC)


def _unpad(hand: Found, margin: float) -> Found:
    """Turn fractions of the padded picture into those of the picture itself."""
    return hand._replace(joints=hand.joints * (1 + 2 * margin) - margin)


def _middle(joints: np.ndarray) -> np.ndarray:
    return (joints.min(axis=0) + joints.max(axis=0)) / 2


if __name__ == "__main__":
    sys.exit(main())
