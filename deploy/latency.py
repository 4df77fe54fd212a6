"""How long each step of the runtime takes, kept all the time: the latest samples per step.

The room for them, 80 kB, is taken at a step's first sample: a run does not grow for minutes.
"""

import contextlib
import time
from typing import Dict, Iterator, Sequence, Union

import numpy as np

SAMPLES = 10000
PERCENTILES = (50, 90, 99)


class Latency:
    """Milliseconds by step. Each step is recorded by one thread; any thread may summarize."""

    def __init__(self) -> None:
        self._steps: Dict[str, _Latest] = {}

    def add(self, step: str, milliseconds: float) -> None:
        """Record one sample; the oldest of more than SAMPLES is forgotten."""
        if step not in self._steps:
            self._steps[step] = _Latest()
        self._steps[step].add(milliseconds)

    @contextlib.contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Record how long the block takes, unless it raises."""
        started = time.perf_counter()
        yield
        self.add(step, (time.perf_counter() - started) * 1e3)

    def summary(self) -> Dict[str, Dict[str, float]]:
        """Return the percentiles and the number of samples, by step; see summarize."""
        steps = [(step, latest.values()) for step, latest in list(self._steps.items())]
        return {step: summarize(values) for step, values in steps if len(values)}


class _Latest:
    """The latest SAMPLES numbers, written round and round; which of them is oldest is not kept."""

    def __init__(self) -> None:
        self._values = np.full(SAMPLES, np.nan)  # written to, so that the memory is really taken
        self._count = 0

    def add(self, value: float) -> None:
        self._values[self._count % SAMPLES] = value
        self._count += 1

    def values(self) -> np.ndarray:
        """Return a copy, in no order."""
        return self._values[: min(self._count, SAMPLES)].copy()


def summarize(milliseconds: Union[Sequence[float], np.ndarray]) -> Dict[str, float]:
    """Return min_ms, p50_ms, p90_ms, p99_ms and samples of a non-empty list."""
    values = np.asarray(milliseconds, np.float64)
    percentiles = np.percentile(values, PERCENTILES)
    summary = {f"p{p}_ms": round(float(value), 4) for p, value in zip(PERCENTILES, percentiles)}
    summary["min_ms"] = round(float(values.min()), 4)
    summary["samples"] = len(values)
    return summary
