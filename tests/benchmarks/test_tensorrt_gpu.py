"""The GPU measurement end to end with the recorded TensorRT, on the tiny models."""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import tensorrt_gpu, tensorrt_models
from benchmarks.tensorrt_gpu_builds import VARIANTS, Job, built_folder, run_processes
from deploy import tensorrt_kernel
from deploy.source import list_images
from tests.deploy.clips import count_frames, write_clip
from tests.deploy.host_kernel import compile_for_host
from tests.deploy.kitti_folder import write_kitti_folder
from tests.deploy.recorded_pycuda import make_pycuda
from tests.deploy.tensorrt_device import use_device, write_classifier, write_detector


@pytest.fixture
def gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as benchmarks.tensorrt_models gathers it."""
    write_kitti_folder(tmp_path / "kitti")
    sources = write_detector(tmp_path / "detector"), write_classifier(tmp_path / "gesture")
    out = tmp_path / "out"
    out.mkdir()
    words = ["--out", str(out), "--kitti", str(tmp_path / "kitti"), "--clip-frames", "2"]
    words += [word for source in sources for word in ("--model", str(source))]
    monkeypatch.setattr(sys, "argv", ["tensorrt_models", *words])
    monkeypatch.setattr(
        tensorrt_models,
        "draw_clip",
        lambda path, num_frames: write_clip(path, [[("fist", 64, 64)]] * num_frames),
    )
    assert tensorrt_models.main() == 0
    return out


def test_every_engine_loop_and_bad_input_is_in_the_document(
    gathered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = json.loads((gathered / "expected.json").read_text())
    assert expected["detector"]["fp32"]["ap50"] == 1.0
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(tensorrt_kernel, "_run", write_cubin)
    use_device(monkeypatch, cuda=make_pycuda(launch=compile_for_host(gathered)))
    monkeypatch.setattr("deploy.readers.available_cpus", lambda: 8)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["tensorrt_gpu", str(gathered), "--repeats", "3"])
    assert tensorrt_gpu.main() == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["models"]["detector"]
    assert set(rows) == {"fp32", "fp16", "int8_cache", "int8_qdq"}
    for row in rows.values():
        assert row["within_tolerance"], row
        assert row["apis"]["tried"] == ["bindings", "named"]
        assert row["apis"]["largest_difference"] == 0.0
        assert set(row["apis"]["submit_ms_p50"]) == {"bindings", "named"}
        assert row["gpu_ms"]["samples"] == 3
    assert rows["fp16"]["ap_less_fp32"] == 0.0
    assert {rows["int8_qdq"][f"ap_less_{name}"] for name in ("int8", "int8_unfused")} == {0.0}
    assert "no file for it" in document["models"]["gesture"]["int8_qdq"]["error"]
    assert document["kernel"]["detector"]["levels_p99"] <= 1.01
    assert document["kernel"]["gesture"]["levels_p99"] <= 1.01
    assert set(document["loops"]) == {
        f"detector {name}{more}" for name in ("fp16", "int8_qdq") for more in ("", " and gestures")
    }
    loop = document["loops"]["detector fp16 and gestures"]
    assert loop["hands_per_frame"] == 1.0
    assert loop["from_memory"]["period"]["samples"] == 22
    assert {"preprocess", "detect", "crop", "classify", "total"} <= set(loop["steps"])
    assert loop["deploy.run"]["frames"] == 2
    assert loop["deploy.run"]["readers"] == loop["readers"] == 2
    one = loop["deploy.run, one reader"]
    assert (one["frames"], one["readers"]) == (2, 1)
    assert loop["one_reader_ms"] == one["latency"]["period"]["p50_ms"]
    assert loop["one_reader_ratio"] == pytest.approx(
        loop["one_reader_ms"] / loop["engines_ms"], abs=1e-2
    )
    engines = loop["gpu_copies_ms"]
    assert loop["engines_ms"] == pytest.approx(
        engines["detector"]["p50_ms"] + engines["gesture"]["p50_ms"], abs=1e-3
    )
    assert loop["period_ratio"] == pytest.approx(loop["period_ms"] / loop["engines_ms"], abs=1e-2)
    assert loop["mean_ms"] == loop["deploy.run"]["latency"]["period"]["mean_ms"]
    assert loop["is_within"] == (loop["period_ms"] <= 1.3 * loop["engines_ms"])
    assert set(document["loops"]["detector fp16"]["gpu_copies_ms"]) == {"detector"}
    answers = document["bad_input"]
    assert "Magic tag does not match" in answers["cut engine"]
    assert "cannot read it" in answers["cut onnx"]
    assert "0 DLA cores" in answers["dla"]
    assert "lacks the ranges" in answers["poor cache"]


def test_builds_stop_when_the_time_is_over(
    gathered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = measure(monkeypatch, capsys, gathered, "--budget-s", "0", "--parts", "models")
    errors = {row["error"] for row in document["models"]["detector"].values()}
    assert errors == {"left out, the time is over; raise --budget-s or run it again"}


def test_second_run_goes_on_where_the_first_was_cut(
    gathered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--parts", "models", "--models", "detector", "--variants"]
    first = measure(monkeypatch, capsys, gathered, *words, "fp16")["models"]["detector"]
    assert set(first) == {"fp16"}
    engine = gathered / "built" / "fp16" / "detector" / "tensorrt" / "fp16" / "model.engine"
    written = engine.stat().st_mtime_ns
    second = measure(monkeypatch, capsys, gathered, *words, "fp16", "int8_qdq")
    rows = second["models"]["detector"]
    assert rows["fp16"] == first["fp16"]
    assert "error" not in rows["int8_qdq"]
    assert engine.stat().st_mtime_ns == written


def test_processes_run_so_many_at_a_time_and_their_errors_are_told(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "models" / f"m{n}", VARIANTS[0]) for n in range(5)]
    for job in jobs:
        built_folder(job).mkdir(parents=True)
    count = "import os,sys,time; d=sys.argv[1]; open(f'{d}/{os.getpid()}','w').close()"
    count += "; time.sleep(0.3); n=len(os.listdir(d)); os.remove(f'{d}/{os.getpid()}')"
    count += "; sys.exit(n > 2)"
    (tmp_path / "alive").mkdir()
    commands = {job: [sys.executable, "-c", count, str(tmp_path / "alive")] for job in jobs[:4]}
    commands[jobs[4]] = [sys.executable, "-c", "raise SystemExit('error: no memory')"]
    far_s = time.perf_counter() + 60
    errors = run_processes(commands, processes=2, deadline_s=far_s)
    assert errors == {jobs[4]: "error: no memory"}


def test_processes_are_ended_when_the_time_is_over(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / "models" / f"m{n}", VARIANTS[0]) for n in range(3)]
    for job in jobs:
        built_folder(job).mkdir(parents=True)
    commands = {job: [sys.executable, "-c", "import time; time.sleep(60)"] for job in jobs}
    started = time.perf_counter()
    errors = run_processes(commands, processes=2, deadline_s=started + 0.5)
    assert set(errors) == set(jobs)
    assert all("the time is over" in error for error in errors.values())
    assert time.perf_counter() - started < 30


def measure(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    *words: str,
) -> Any:
    """Run the program without a kernel; return its document."""
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)
    use_device(monkeypatch)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["tensorrt_gpu", str(folder), "--repeats", "3", *words])
    assert tensorrt_gpu.main() == 0
    return json.loads(capsys.readouterr().out)


def write_cubin(command: list[str]) -> str:
    Path(command[command.index("-o") + 1]).write_bytes(b"compiled")
    return ""


def test_clip_of_pictures_moves_over_each_for_a_while(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    ramp = np.tile(np.arange(1440) // 6, (810, 1)).astype(np.uint8)
    for number, image in enumerate((ramp, 255 - ramp)):
        cv2.imwrite(str(folder / f"{number}.png"), np.dstack([image] * 3))
    frames = list(itertools.islice(tensorrt_models.pan(list_images(folder), 4), 10))
    assert {frame.shape for frame in frames} == {(720, 1280, 3)}
    # The window goes to the right, a quarter of the margin each time, and then to the next one.
    assert [int(frame[0, 0, 0]) for frame in frames] == [
        *(0, 6, 13, 20),
        *(255, 249, 242, 235),
        *(0, 6),
    ]
    clip = tmp_path / "clip.mp4"
    tensorrt_models.write_clip(clip, folder, num_frames=5)
    assert count_frames(clip) == (5, (1280, 720))
