"""From hand polygons to boxes: extremes, clipping, and what is dropped. Pure array code."""

import enum
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deploy.core.boxes import WidthHeight, clip_boxes

BOX_DECIMALS = 2  # as the label files have them


class Fate(enum.IntEnum):
    """What became of a polygon."""

    KEPT = 0
    CLIPPED = 1  # kept, and reached over the edge of the image
    OUTSIDE = 2  # dropped: nothing of it is in the image
    DEGENERATE = 3  # dropped: fewer than 3 points, no area, or a coordinate that is no number


class PolygonBoxes(NamedTuple):
    """Boxes xyxy (N, 4) float32 and fates (N,) int64, a row per polygon, dropped or not."""

    xyxy: np.ndarray
    fate: np.ndarray


def box_polygons(polygons: Sequence[np.ndarray], image_wh: WidthHeight) -> PolygonBoxes:
    """Return the extremes of each polygon, clipped to the image and rounded to two decimals.

    polygons: (K, 2) x and y in pixels each, any K. A dropped polygon has a box without meaning.
    """
    fate = np.full(len(polygons), int(Fate.DEGENERATE))  # (N,)
    xyxy = np.zeros((len(polygons), 4), dtype=np.float32)
    usable = [i for i, points in enumerate(polygons) if len(points) >= 3]
    if not usable:
        return PolygonBoxes(xyxy, fate)
    extremes, has_area = _measure([polygons[i] for i in usable])
    xyxy[usable], fate[usable] = clip_extremes(extremes, image_wh)
    fate[np.array(usable)[~has_area]] = Fate.DEGENERATE
    return PolygonBoxes(xyxy, fate)


def clip_extremes(extremes: np.ndarray, image_wh: WidthHeight) -> PolygonBoxes:
    """Clip boxes (N, 4) to the image, round them to two decimals, and tell what became of each."""
    clipped = np.round(clip_boxes(extremes.astype(np.float32), image_wh), BOX_DECIMALS)  # (N, 4)
    low, high = extremes[:, :2], extremes[:, 2:]  # (N, 2)
    fate = np.full(len(extremes), int(Fate.KEPT))  # (N,)
    fate[(low < 0.0).any(axis=1) | (high > image_wh).any(axis=1)] = Fate.CLIPPED
    fate[(clipped[:, 2:] <= clipped[:, :2]).any(axis=1)] = Fate.DEGENERATE
    fate[(high <= 0.0).any(axis=1) | (low >= image_wh).any(axis=1)] = Fate.OUTSIDE
    return PolygonBoxes(clipped, fate)


def _measure(polygons: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return extremes (N, 4) float64 and whether each polygon of 3 points or more has an area."""
    points = np.concatenate(polygons).astype(np.float64, copy=False)  # (P, 2)
    counts = np.array([len(polygon) for polygon in polygons])  # (N,)
    starts = np.cumsum(counts) - counts
    low = np.minimum.reduceat(points, starts)  # (N, 2)
    high = np.maximum.reduceat(points, starts)
    with np.errstate(invalid="ignore"):
        arms = points - np.repeat(points[starts], counts, axis=0)  # (P, 2), from the first point
        triangles = np.abs(arms[:-1, 0] * arms[1:, 1] - arms[1:, 0] * arms[:-1, 1])  # (P - 1,)
    # Pairs across two polygons count as 0: the first arm of every polygon is zero.
    area = np.maximum.reduceat(np.append(triangles, 0.0), starts)
    extremes = np.concatenate([low, high], axis=1)
    finite = np.isfinite(extremes).all(axis=1)
    extremes[~finite] = 0.0
    return extremes, finite & (area > 0.0)
