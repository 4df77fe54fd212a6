"""The training benchmark in its smallest form, and the parts that need no run."""

import json
from pathlib import Path

import pytest

from benchmarks import drawn, train
from benchmarks.train import device_counts, main, measure
from benchmarks.train_point import Point, epoch_pictures, summarise_target

SMALL = ["--layers", "10", "--width", "8", "--input", "96x64", "--images", "8", "--epochs", "2"]


def test_the_file_says_what_was_measured_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn, "VAL_VIDEOS", 1)
    out = tmp_path / "bench.json"
    target = ["--target-ap50", "0.5", "--target-videos", "1", "--target-epochs", "1"]
    assert main([*SMALL, "--devices", "1,2", "--batches", "4", *target, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {"cpu", "cpu_flags", "cpus", "gpus", "python", "torch", "cuda"} <= found[
        "machine"
    ].keys()
    assert found["model"] == {"layers": 10, "width": 8, "input_wh": [96, 64]}
    assert [(row["devices"], row["batch_size"]) for row in found["speed"]] == [(1, 4), (2, 4)]
    for row in found["speed"]:
        assert row["images_per_s"] > 0
        assert len(row["epoch_s"]) == 2
        assert row["parts_ms"].keys() == {"gather", "augment", "targets"}
    timed = found["time_to_target"]
    assert (timed["devices"], timed["batch_size"], timed["target_ap50"]) == (2, 8, 0.5)
    assert [row["epoch"] for row in timed["curve"]] == [1]
    assert timed["reached_s"] is None
    assert timed["last_s"] > 0


def test_what_a_person_can_mend_is_in_the_row() -> None:
    row = measure(Point(10, 8, [96, 64], images=8, epochs=1, devices=0))
    assert row.keys() == {"devices", "batch_size", "error"}
    assert row["error"].startswith("accelerator auto, devices 0")


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="(?s)ended with 1:.*ValueError: num_layers is 11"):
        measure(Point(11, 8, [96, 64], images=8, epochs=1))


@pytest.mark.parametrize(
    ("num_gpus", "expected"),
    [(0, [1]), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])],
)
def test_devices_double_up_to_all(num_gpus: int, expected: list[int]) -> None:
    assert device_counts(num_gpus) == expected


def test_bad_sizes_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train.parse_arguments(["--input", "100x64"])
    assert caught.value.code == 2
    assert "multiples of 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "epoch", "images", "seconds", "train_s"),
    [(0.0, 1, 10, 2.0, 1.5), (0.5, 2, 20, 4.0, 3.0), (0.7, 2, 20, 4.0, 3.0), (0.9, *[None] * 4)],
)
def test_the_first_epoch_that_reaches_the_target_counts(
    target: float,
    epoch: int | None,
    images: int | None,
    seconds: float | None,
    train_s: float | None,
) -> None:
    rows = [
        {"epoch": n, "images": 10 * n, "ap50": ap50, "seconds": 2.0 * n, "train_s": 1.5}
        for n, ap50 in ((1, 0.2), (2, 0.7), (3, 0.6))
    ]
    found = summarise_target(rows, Point(10, 8, [96, 64], 8, epochs=3, target_ap50=target))
    assert (found["reached_epoch"], found["reached_images"]) == (epoch, images)
    assert (found["reached_s"], found["reached_train_s"]) == (seconds, train_s)
    assert (found["last_ap50"], found["last_s"]) == (0.6, 6.0)


@pytest.mark.parametrize(
    ("batch_size", "devices", "expected"), [(4, 1, 8), (8, 1, 8), (16, 1, 16), (3, 2, 12)]
)
def test_pictures_that_fill_the_last_batch_count(
    batch_size: int, devices: int, expected: int
) -> None:
    point = Point(10, 8, [96, 64], 8, epochs=1, batch_size=batch_size, devices=devices)
    assert epoch_pictures(point, 8) == expected
