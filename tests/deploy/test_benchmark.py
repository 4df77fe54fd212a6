"""The benchmark: every figure is there, ordered, and of the asked number of samples."""

import json

import numpy as np
import pytest

from deploy import benchmark as program
from deploy.benchmark import benchmark, measure_engine
from tests.deploy.clips import write_clip
from tests.deploy.test_run import numpy_models
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

IMAGES = [draw_frame([("fist", 64, 64), ("ok", 384, 192)])]


def test_warm_up_is_run_and_not_counted():
    engine = numpy_detector()
    figures = measure_engine(engine, batch=2, warm_up=3, repeats=5)
    assert engine.batch_sizes == [2] * 8
    assert figures["samples"] == 5
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]


def test_networks_and_steps_are_measured():
    engines = {"detector": numpy_detector(), "gesture": numpy_classifier()}
    document = benchmark(engines, IMAGES, num_frames=6, warm_up=2)
    assert list(document["networks"]) == [
        "detector batch 1",
        "gesture batch 1",
        "gesture batch 2",
        "gesture batch 4",
    ]
    steps = {"preprocess", "detect", "cluster", "track", "crop", "classify", "total"}
    assert set(document["steps"]) == steps
    assert {step["samples"] for step in document["steps"].values()} == {6}
    parts = sum(document["steps"][step]["p50_ms"] for step in steps - {"total"})
    assert document["steps"]["total"]["p99_ms"] >= parts * 0.5
    json.dumps(document)


def test_without_hands_or_classifier_their_steps_are_left_out():
    black = [np.zeros((72, 128, 3), np.uint8)]
    document = benchmark({"detector": numpy_detector()}, black, num_frames=2, warm_up=1)
    assert set(document["steps"]) == {"preprocess", "detect", "cluster", "track", "total"}


@pytest.mark.parametrize("with_clip", [True, False])
def test_program_prints_one_json_document(tmp_path, monkeypatch, capsys, with_clip):
    arguments = numpy_models(tmp_path, monkeypatch) + ["--frames", "3", "--warm-up", "1"]
    if with_clip:
        clip = write_clip(tmp_path / "clip.mp4", [[("fist", 64, 64)]] * 4)
        arguments += ["--source", clip]
    assert program.main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["image_wh"] == ([640, 384] if with_clip else [1280, 720])
    assert "total" in document["steps"]


def test_source_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    arguments = numpy_models(tmp_path, monkeypatch)
    assert program.main(arguments + ["--source", str(tmp_path / "no.mp4")]) == 1
    assert capsys.readouterr().err.startswith("error: source ")
