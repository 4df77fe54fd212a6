"""Percentiles of steps."""

import sys
import threading
import tracemalloc

import pytest

from deploy.latency import SAMPLES, Latency, summarize


def test_percentiles_by_hand():
    # 101 values 0 ... 100: the p-th percentile is p.
    assert summarize(list(range(101))) == {
        "mean_ms": 50.0,
        "min_ms": 0.0,
        "p50_ms": 50.0,
        "p90_ms": 90.0,
        "p99_ms": 99.0,
        "samples": 101,
    }


def test_nothing_measured_is_an_empty_summary():
    assert Latency().summary() == {}


def test_only_the_latest_samples_are_kept():
    latency = Latency()
    for value in range(SAMPLES + 5):
        latency.add("step", float(value))
    summary = latency.summary()["step"]
    assert summary["samples"] == SAMPLES
    assert summary["p50_ms"] == pytest.approx((5 + SAMPLES + 4) / 2)


def test_memory_of_a_step_is_taken_at_its_first_sample():
    latency = Latency()
    tracemalloc.start()
    try:
        latency.add("step", 1.0)
        before = tracemalloc.get_traced_memory()[0]
        for value in range(2 * SAMPLES):
            latency.add("step", float(value))
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert before > 8 * SAMPLES
    assert after - before < 1000


def test_a_step_that_raises_is_not_counted():
    latency = Latency()
    with pytest.raises(KeyError), latency.measure("bad"):
        raise KeyError
    with latency.measure("good"):
        pass
    assert list(latency.summary()) == ["good"]


def test_threads_that_record_the_same_step_lose_nothing():
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        summaries = [record_by_threads() for _ in range(20)]
    finally:
        sys.setswitchinterval(interval_s)
    assert {summary["samples"] for summary in summaries} == {8 * 500}
    assert {summary["p50_ms"] for summary in summaries} == {3.5}


def record_by_threads():
    """Record 500 samples of n on thread n of 8, all of one step; return its summary."""
    latency = Latency()

    def record(number):
        for _ in range(500):
            latency.add("step", number)

    threads = [threading.Thread(target=record, args=(float(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latency.summary()["step"]
