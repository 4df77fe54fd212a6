"""One labelled frame between reading (egohands, kitti_folder) and writing (convert)."""

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from stages.datasets.polygons import Fate


class Gesture(str, enum.Enum):
    """The gestures, in the order of GestureNet's outputs; `random` is any other posture."""

    THUMBS_UP = "thumbs_up"
    FIST = "fist"
    STOP = "stop"
    OK = "ok"
    TWO = "two"
    RANDOM = "random"


class LabelledFrame(NamedTuple):
    """A frame ready to be written.

    frame: its number in the video. image: path of the picture. xyxy: (N, 4) boxes in pixels,
    inside the image. gestures: names by row of xyxy, only for hands that have one.
    """

    stem: str
    video: str
    frame: int
    train_only: bool
    image: str
    image_wh: tuple[int, int]
    xyxy: np.ndarray
    gestures: Mapping[int, str]


class VideoFrames(NamedTuple):
    """The frames of one video, and counts of labels clipped, outside, degenerate or ignored."""

    name: str
    frames: Sequence[LabelledFrame]
    fates: Mapping[str, int]


def count_fates(fates: Sequence[int] | np.ndarray) -> Counter[str]:
    """Count fates by name: clipped, outside and degenerate, each present even when 0."""
    counted = Counter(int(fate) for fate in fates)
    names = (Fate.CLIPPED, Fate.OUTSIDE, Fate.DEGENERATE)
    return Counter({fate.name.lower(): counted[int(fate)] for fate in names})
