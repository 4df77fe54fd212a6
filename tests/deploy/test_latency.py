"""Percentiles of steps."""

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


def test_a_step_that_raises_is_not_counted():
    latency = Latency()
    with pytest.raises(KeyError), latency.measure("bad"):
        raise KeyError
    with latency.measure("good"):
        pass
    assert list(latency.summary()) == ["good"]
