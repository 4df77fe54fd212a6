"""How long each step of the runtime takes, kept all the time: the latest samples per step."""

import collections
import contextlib
import time
from typing import Deque, Dict, Iterator, Sequence

import numpy as np

SAMPLES = 10000
PERCENTILES = (50, 90, 99)


class Latency:
    """Milliseconds by step. Each step is recorded by one thread; any thread may summarize."""

    def __init__(self) -> None:
        self._samples: Dict[str, Deque[float]] = {}

    def add(self, step: str, milliseconds: float) -> None:
        """Record one sample; the oldest of more than SAMPLES is forgotten."""
        if step not in self._samples:
            self._samples[step] = collections.deque(maxlen=SAMPLES)
        self._samples[step].append(milliseconds)

    @contextlib.contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Record how long the block takes, unless it raises."""
        started = time.perf_counter()
        yield
        self.add(step, (time.perf_counter() - started) * 1e3)

    def summary(self) -> Dict[str, Dict[str, float]]:
        """Return the percentiles and the number of samples, by step; see summarize."""
        return {step: summarize(list(samples)) for step, samples in list(self._samples.items())}


def summarize(milliseconds: Sequence[float]) -> Dict[str, float]:
    """Return min_ms, p50_ms, p90_ms, p99_ms and samples of a non-empty list."""
    values = np.percentile(np.asarray(milliseconds, np.float64), PERCENTILES)
    summary = {f"p{p}_ms": round(float(value), 4) for p, value in zip(PERCENTILES, values)}
    summary["min_ms"] = round(float(min(milliseconds)), 4)
    summary["samples"] = len(milliseconds)
    return summary
