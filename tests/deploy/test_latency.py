"""Percentiles of steps."""

import tracemalloc

import pytest

from deploy.latency import SAMPLES, Latency, summarize


def test_percentiles_by_hand():
    # 101 values 0 ... 100: the p-th percentile is p.
    assert summarize(list(range(101))) == {
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
