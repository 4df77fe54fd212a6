"""How long each step of the runtime takes, kept all the time: the latest samples per step.

The room for them, 80 kB, is taken at a step's first sample: a run does not grow for minutes.
"""

import array
import time
from typing import Any, Dict, Sequence, Union

import numpy as np

SAMPLES = 10000
PERCENTILES = (50, 90, 99)


class Latency:
    """Milliseconds by step. Each step is recorded by one thread; any thread may summarize."""

    def __init__(self) -> None:
        self._steps: Dict[str, _Latest] = {}

    def add(self, step: str, milliseconds: float) -> None:
        """Record one sample; the oldest of more than SAMPLES is forgotten."""
        latest = self._steps.get(step)
        if latest is None:
            latest = self._steps[step] = _Latest()
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
        self._count = 0

    def add(self, value: float) -> None:
        self._values[self._count % SAMPLES] = value
        self._count += 1

    def values(self) -> np.ndarray:
        """Return a copy, in no order."""
        return np.array(self._values[: min(self._count, SAMPLES)], np.float64)


def summarize(milliseconds: Union[Sequence[float], np.ndarray]) -> Dict[str, float]:
    """Return min_ms, p50_ms, p90_ms, p99_ms and samples of a non-empty list."""
    values = np.asarray(milliseconds, np.float64)
    percentiles = np.percentile(values, PERCENTILES)
    summary = {f"p{p}_ms": round(float(value), 4) for p, value in zip(PERCENTILES, percentiles)}
    summary["min_ms"] = round(float(values.min()), 4)
    summary["samples"] = len(values)
    return summary
