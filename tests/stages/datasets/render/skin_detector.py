"""A fair skin-colour hand detector, the baseline that the drawn data must not be solved by.

The usual YCrCb thresholds (Chai and Ngan 1999, "Face segmentation using skin-color map": Cr
133..173, Cb 77..127), cleaned by opening and closing, connected components, boxes. As arms hang on
hands, a long component may be cut to its upper end, and small, large or hollow components are
ranked lower.
"""

import cv2
import numpy as np

from deploy.core.cluster import Detections


def detect_skin(image_bgr: np.ndarray, *, cut_arms: bool) -> Detections:
    """Find skin-coloured components: boxes in pixels, confidence by how hand-like the size is."""
    small = cv2.GaussianBlur(image_bgr, (5, 5), 0)
    ycrcb = cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb)
    mask = cv2.inRange(ycrcb, np.array([40, 133, 77]), np.array([255, 173, 127]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    boxes, scores = [], []
    height = image_bgr.shape[0]
    for x, y, w, h, area in stats[1:]:
        if not 0.04 * height <= h or area < 0.0005 * mask.size:
            continue
        if cut_arms:
            h = min(h, int(1.35 * w))
        boxes.append([x, y, x + w, y + h])
        size = np.exp(-abs(np.log(max(h, 1) / (0.24 * height))))
        scores.append(float(size * (0.3 + 0.7 * area / max(w * h, 1))))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.clip(np.array(scores, np.float32), 0.0, 1.0),
        np.zeros(len(boxes), np.int64),
    )
