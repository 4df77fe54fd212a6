"""How one hand moves: constant velocity that dies away while the hand is not seen.

The velocity is an exponential average, by seconds and not by frames, of how far the box's centre
moved between two sightings. A prediction takes the last box along by velocity * decay_s *
(1 - exp(-passed / decay_s)): at first velocity * passed, in the end no further than velocity *
decay_s, so that a hand that is hidden coasts on and does not fly away. The box keeps its size.

Boxes are tuples: for four numbers a call of NumPy costs more than its work.
"""

import math
from typing import NamedTuple, Sequence, Tuple

Box = Tuple[float, float, float, float]


class MotionRule(NamedTuple):
    """average_s: time constant of the velocity's average; decay_s: of its dying away unseen."""

    average_s: float = 0.07
    decay_s: float = 0.5


class Motion(NamedTuple):
    """State of one hand: its last box xyxy and velocity (x, y) in pixels per second."""

    xyxy: Box
    velocity: Tuple[float, float]
    seen_s: float


def start_motion(xyxy: Sequence[float], *, time_s: float) -> Motion:
    """Return the state of a hand that is seen for the first time, at rest; keeps no view of it."""
    left, top, right, bottom = xyxy
    return Motion((left, top, right, bottom), (0.0, 0.0), time_s)


def predict_box(motion: Motion, rule: MotionRule, *, time_s: float) -> Box:
    """Return where the hand's box is by now; with decay_s of 0 where it was."""
    if rule.decay_s <= 0:
        return motion.xyxy
    seconds = rule.decay_s * -math.expm1((motion.seen_s - time_s) / rule.decay_s)
    x_velocity, y_velocity = motion.velocity
    x_move, y_move = x_velocity * seconds, y_velocity * seconds
    left, top, right, bottom = motion.xyxy
    return left + x_move, top + y_move, right + x_move, bottom + y_move


def follow_box(
    motion: Motion, xyxy: Sequence[float], rule: MotionRule, *, time_s: float
) -> Motion:
    """Return the state after the hand is seen again in a box of four numbers.

    Two sightings at the same time leave the velocity as it is.
    """
    left, top, right, bottom = xyxy
    passed_s = time_s - motion.seen_s
    if passed_s <= 0:
        return Motion((left, top, right, bottom), motion.velocity, time_s)
    last_left, last_top, last_right, last_bottom = motion.xyxy
    x_measured = ((left - last_left) + (right - last_right)) / (2 * passed_s)
    y_measured = ((top - last_top) + (bottom - last_bottom)) / (2 * passed_s)
    gain = -math.expm1(-passed_s / rule.average_s) if rule.average_s > 0 else 1.0
    x_velocity, y_velocity = motion.velocity
    velocity = (
        x_velocity + gain * (x_measured - x_velocity),
        y_velocity + gain * (y_measured - y_velocity),
    )
    return Motion((left, top, right, bottom), velocity, time_s)
