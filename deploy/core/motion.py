"""How one hand moves: constant velocity that dies away while the hand is not seen.

The velocity is an exponential average, by seconds and not by frames, of how far the box's centre
moved between two sightings. A prediction takes the last box along by velocity * decay_s *
(1 - exp(-passed / decay_s)): at first velocity * passed, in the end no further than velocity *
decay_s, so that a hand that is hidden coasts on and does not fly away. The box keeps its size.
"""

import math
from typing import NamedTuple

import numpy as np


class MotionRule(NamedTuple):
    """average_s: time constant of the velocity's average; decay_s: of its dying away unseen."""

    average_s: float = 0.07
    decay_s: float = 0.5


class Motion(NamedTuple):
    """State of one hand: its last box (4,) float64 and velocity (2,) in pixels per second."""

    xyxy: np.ndarray
    velocity: np.ndarray
    seen_s: float


def start_motion(xyxy: np.ndarray, *, time_s: float) -> Motion:
    """Return the state of a hand that is seen for the first time, at rest; keeps no view of it."""
    return Motion(np.array(xyxy, np.float64), np.zeros(2), time_s)


def predict_box(motion: Motion, rule: MotionRule, *, time_s: float) -> np.ndarray:
    """Return where the hand's box is by now, (4,) float64; with decay_s of 0 where it was."""
    if rule.decay_s <= 0:
        return motion.xyxy
    seconds = rule.decay_s * -math.expm1((motion.seen_s - time_s) / rule.decay_s)
    move = motion.velocity * seconds
    return motion.xyxy + np.concatenate([move, move])


def follow_box(motion: Motion, xyxy: np.ndarray, rule: MotionRule, *, time_s: float) -> Motion:
    """Return the state after the hand is seen again in a box (4,).

    Two sightings at the same time leave the velocity as it is.
    """
    box = np.array(xyxy, np.float64)
    passed_s = time_s - motion.seen_s
    if passed_s <= 0:
        return Motion(box, motion.velocity, time_s)
    change = box - motion.xyxy
    measured = (change[:2] + change[2:]) / (2 * passed_s)
    gain = -math.expm1(-passed_s / rule.average_s) if rule.average_s > 0 else 1.0
    return Motion(box, motion.velocity + gain * (measured - motion.velocity), time_s)
