"""From a flickering class per frame to gestures that begin, hold and end.

Per track the class probabilities are averaged over time (exponentially, by seconds and not by
frames, so that a dropped frame changes nothing else). The gesture then follows a state machine:

- what it wants to be is the most probable gesture, if that reaches `enter_threshold`; else the
  gesture that it already is, while that stays at `exit_threshold` or above; else none;
- it changes only when it has wanted the same thing, in at least two frames, for `min_hold_s`.

So one flickering frame neither begins nor ends anything, at any frame rate. Idle classes
(`random`) take part in the average and never become a gesture.
"""

import enum
import math
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

TIME_TOLERANCE_S = 1e-6


class Phase(enum.Enum):
    """What a gesture event says; every `begin` is closed by exactly one `end` or `lost`."""

    BEGIN = "begin"
    HOLD = "hold"
    END = "end"
    LOST = "lost"


class SmootherRule(NamedTuple):
    """Thresholds in (0, 1], enter >= exit; times in seconds.

    time_constant_s: of the average; hold_interval_s: time between `hold` events.
    """

    enter_threshold: float = 0.6
    exit_threshold: float = 0.4
    time_constant_s: float = 0.1
    min_hold_s: float = 0.2
    hold_interval_s: float = 0.5


DEFAULT_RULE = SmootherRule()


class Change(NamedTuple):
    """One step of a track's gesture; confidence is its averaged probability."""

    phase: Phase
    class_id: int
    confidence: float


class _State:
    """Of one track: the average, the gesture, what it wants to be and since when."""

    # The average is a list: for half a dozen classes a call of NumPy costs more than its work.
    def __init__(self, probabilities: List[float], time_s: float) -> None:
        self.average = probabilities
        self.time_s = time_s
        self.gesture: Optional[int] = None
        self.wanted: Optional[int] = None
        self.wanted_since_s = time_s
        self.told_s = time_s


class Smoother:
    """Gestures of all tracks."""

    def __init__(
        self, idle_classes: Sequence[int] = (), rule: SmootherRule = DEFAULT_RULE
    ) -> None:
        """idle_classes: classes that are no gesture. Raises ValueError for a senseless rule."""
        check_rule(rule)
        self.rule = rule
        self._idle = list(idle_classes)
        self._states: Dict[int, _State] = {}

    def update(self, track: int, probabilities: np.ndarray, *, time_s: float) -> List[Change]:
        """Take in one frame's class probabilities (C,) of a track; return what changes, in order.

        Frames in which the track is unseen are left out. `end` comes before the next `begin`.
        """
        seen: List[float] = probabilities.tolist()
        state = self._states.get(track)
        if state is None:
            state = self._states[track] = _State(seen, time_s)
        else:
            _average(state, seen, time_s, self.rule.time_constant_s)
        wanted = self._wanted(state)
        if wanted == state.gesture:
            state.wanted = wanted
            return self._hold(state, time_s)
        if wanted != state.wanted:
            state.wanted, state.wanted_since_s = wanted, time_s
            return []
        if time_s - state.wanted_since_s < self.rule.min_hold_s - TIME_TOLERANCE_S:
            return []
        return self._change(state, wanted, time_s)

    def current(self, track: int) -> Optional[Change]:
        """Return the gesture that a track is in (as HOLD), or None."""
        state = self._states.get(track)
        if state is None or state.gesture is None:
            return None
        return Change(Phase.HOLD, state.gesture, state.average[state.gesture])

    def lose(self, track: int) -> List[Change]:
        """Forget a track that is lost; return LOST if it was in a gesture."""
        current = self.current(track)
        self._states.pop(track, None)
        return [] if current is None else [current._replace(phase=Phase.LOST)]

    def _wanted(self, state: _State) -> Optional[int]:
        highest = max(state.average)
        best = state.average.index(highest)
        if best not in self._idle and highest >= self.rule.enter_threshold:
            return best
        gesture = state.gesture
        if gesture is not None and state.average[gesture] >= self.rule.exit_threshold:
            return gesture
        return None

    def _hold(self, state: _State, time_s: float) -> List[Change]:
        due = time_s - state.told_s >= self.rule.hold_interval_s - TIME_TOLERANCE_S
        if state.gesture is None or not due:
            return []
        state.told_s = time_s
        return [_step(Phase.HOLD, state, state.gesture)]

    def _change(self, state: _State, wanted: Optional[int], time_s: float) -> List[Change]:
        changes = []
        if state.gesture is not None:
            changes.append(_step(Phase.END, state, state.gesture))
        if wanted is not None:
            changes.append(_step(Phase.BEGIN, state, wanted))
        state.gesture, state.told_s = wanted, time_s
        return changes


def check_rule(rule: SmootherRule) -> None:
    """Raise ValueError unless 0 < exit <= enter <= 1 and no time is negative or NaN."""
    if not 0 < rule.exit_threshold <= rule.enter_threshold <= 1:
        raise ValueError(
            f"exit_threshold {rule.exit_threshold} and enter_threshold {rule.enter_threshold}; "
            "expected 0 < exit <= enter <= 1"
        )
    times = (rule.time_constant_s, rule.min_hold_s, rule.hold_interval_s)
    if not all(time >= 0 for time in times):
        raise ValueError(f"{rule}; expected times of 0 or more")


def _average(
    state: _State, probabilities: List[float], time_s: float, time_constant_s: float
) -> None:
    """Move the average by 1 - exp(-passed / time constant) towards the new probabilities."""
    passed = time_s - state.time_s
    if passed < 0:
        raise ValueError(f"frame at {time_s} s comes after {state.time_s} s; expected time order")
    keep = math.exp(-passed / time_constant_s) if time_constant_s > 0 else 0.0
    new = 1 - keep
    state.average = [keep * old + new * seen for old, seen in zip(state.average, probabilities)]
    state.time_s = time_s


def _step(phase: Phase, state: _State, class_id: int) -> Change:
    return Change(phase, class_id, state.average[class_id])
