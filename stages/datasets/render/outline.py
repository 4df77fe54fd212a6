"""Outlines: the polygon around the visible part of a hand."""

import cv2
import numpy as np

_MIN_SHARE = 0.04  # of the visible area: smaller crumbs are not outlined


def trace_outline(mask: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Trace a (H, W) uint8 mask as one polygon: (K, 2) float64 x, y in picture pixels.

    Visible parts that an object separates are joined by bridges of no width, walked there and
    back. Empty (0, 2) when nothing, or only crumbs, is visible. Its extremes are pixel centres
    plus 0 and 1, so that they bound the pixels.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(contour) for contour in contours]
    kept = [
        contour[:, 0]
        for contour, area in zip(contours, areas, strict=True)
        if area >= max(_MIN_SHARE * sum(areas), 4.0)
    ]
    if not kept:
        return np.zeros((0, 2))
    kept.sort(key=len, reverse=True)
    outline = _simplify(kept[0])
    for part in kept[1:]:
        outline = _bridge(outline, _simplify(part))
    return outline.astype(np.float64) + np.array(origin, np.float64)


def _simplify(contour: np.ndarray) -> np.ndarray:
    """Thin a contour out to under a pixel, and let it bound the pixels, not their corners."""
    middle = contour.mean(axis=0)
    grown = contour + (contour > middle)
    thin = cv2.approxPolyDP(grown.astype(np.int32).reshape(-1, 1, 2), 0.7, True)
    return thin[:, 0]


def _bridge(outline: np.ndarray, part: np.ndarray) -> np.ndarray:
    gaps = ((outline[:, None] - part[None]) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(gaps.argmin()), gaps.shape)
    loop = np.concatenate([part[j:], part[: j + 1]])
    return np.concatenate([outline[: i + 1], loop, outline[i:]])
