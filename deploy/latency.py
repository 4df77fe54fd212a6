"""How long each step of the runtime takes, kept all the time: the latest samples per step.

The room for them, 80 kB, is taken at a step's first sample: a run does not grow for minutes.
"""

import array
import itertools
import time
from typing import Any, Dict, Sequence, Union

import numpy as np

SAMPLES = 10000
PERCENTILES = (50, 90, 99)


class Latency:
    """Milliseconds by step. Any thread may record, also the same step, and summarize."""

    def __init__(self) -> None:
        self._steps: Dict[str, _Latest] = {}

    def add(self, step: str, milliseconds: float) -> None:
        """Record one sample; the oldest of more than SAMPLES is forgotten."""
        latest = self._steps.get(step)
        if latest is None:
            latest = self._steps.setdefault(step, _Latest())  # another thread's, if it was first
        latest.add(milliseconds)

    def measure(self, step: str) -> "_Measured":
        """Return a context manager that records how long its block takes, unless it raises."""
        return _Measured(self, step)

    def summary(self) -> Dict[str, Dict[str, float]]:
        """Return the percentiles and the number of samples, by step; see summarize."""
        steps = [(step, latest.values()) for step, latest in list(self._steps.items())]
        return {step: summarize(values) for step, values in steps if len(values)}


class _Measured:
    """What Latency.measure gives; a generator in its place takes twice as long."""

    __slots__ = ("_latency", "_step", "_started_s")

    def __init__(self, latency: Latency, step: str) -> None:
        self._latency = latency
        self._step = step

    def __enter__(self) -> None:
        self._started_s = time.perf_counter()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._latency.add(self._step, (time.perf_counter() - self._started_s) * 1e3)


class _Latest:
    """The latest SAMPLES numbers, written round and round; which of them is oldest is not kept."""

    def __init__(self) -> None:
        # An array of the standard library: a number is put there in half of NumPy's time. It is
        # written to, so that the memory is really taken.
        self._values = array.array("d", [float("nan")]) * SAMPLES
        # One step of C, so that no two threads get the same place; a lock takes twice as long.
        self._places = itertools.count()

    def add(self, value: float) -> None:
        self._values[next(self._places) % SAMPLES] = value

    def values(self) -> np.ndarray:
        """Return a copy of what was written, in no order."""
        values = np.array(self._values, np.float64)
        return values[~np.isnan(values)]


def summarize(milliseconds: Union[Sequence[float], np.ndarray]) -> Dict[str, float]:
    """Return p50_ms, p90_ms, p99_ms, mean_ms, min_ms and samples of a non-empty list."""
    values = np.asarray(milliseconds, np.float64)
    percentiles = np.percentile(values, PERCENTILES)
    summary = {f"p{p}_ms": round(float(value), 4) for p, value in zip(PERCENTILES, percentiles)}
    summary["mean_ms"] = round(float(values.mean()), 4)
    summary["min_ms"] = round(float(values.min()), 4)
    summary["samples"] = len(values)
    return summary
