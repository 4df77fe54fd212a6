"""Hands that point sideways or down show no gesture to a robot: turned copies of gestures say so.

People hold a gesture up: fingers, or the thumb of a thumbs up, point upwards. A closed hand that
rests beside a board points anywhere. Crops that are turned far from upright are therefore taught
as `random`, and `random` itself in every direction, so that a turned picture alone gives nothing
away.
"""

import numpy as np

from stages.gesturenet.config import GESTURES, GestureAugmentConfig
from stages.gesturenet.crops import NO_GESTURE

RANDOM = GESTURES.index(NO_GESTURE)
THUMBS_UP = GESTURES.index("thumbs_up")
# Joints whose direction has to be upwards: wrist to middle finger's root, or along the thumb.
WRIST, MIDDLE_ROOT, THUMB_ROOT, THUMB_TIP = 0, 9, 2, 4


def pointing_deg(joints: np.ndarray, class_id: np.ndarray) -> np.ndarray:
    """Return where hands point, in degrees clockwise from upwards in (-180, 180]: (N,).

    joints: (N, 21, 2) in pixels, as in Crops. A thumbs up points where its thumb does. Hands whose
    joints are unknown count as upright: 0.
    """
    is_thumb = (class_id == THUMBS_UP)[:, None]
    start = np.where(is_thumb, joints[:, THUMB_ROOT], joints[:, WRIST])
    end = np.where(is_thumb, joints[:, THUMB_TIP], joints[:, MIDDLE_ROOT])
    along = end - start
    return np.nan_to_num(np.degrees(np.arctan2(along[:, 0], -along[:, 1])))


def draw_turns(
    joints: np.ndarray,
    class_id: np.ndarray,
    generator: np.random.Generator,
    config: GestureAugmentConfig,
) -> np.ndarray:
    """Draw by how many degrees clockwise each crop is turned: (N,), NaN for those that are not.

    A gesture then points turned_min_deg to 180 degrees away from upwards, to either side; `random`
    anywhere. Nothing is drawn where that is off.
    """
    if not (config.enabled and config.turned_probability):
        return np.full(len(class_id), np.nan)
    is_turned = generator.random(len(class_id)) < config.turned_probability
    least = np.where(class_id == RANDOM, 0.0, config.turned_min_deg)
    away = generator.uniform(least, 180.0) * generator.choice([-1, 1], len(class_id))
    return np.where(is_turned, away - pointing_deg(joints, class_id), np.nan)


def taught_classes(class_id: np.ndarray, turns_deg: np.ndarray) -> np.ndarray:
    """Return what crops are taught as: `random` where they are turned; (N,) int64."""
    return np.where(np.isnan(turns_deg), class_id, RANDOM)
