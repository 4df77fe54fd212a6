"""The GPU measurement end to end with the recorded TensorRT, on the tiny models."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import tensorrt_gpu, tensorrt_models
from deploy import tensorrt_kernel
from tests.deploy.clips import write_clip
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
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["tensorrt_gpu", str(gathered), "--repeats", "3"])
    assert tensorrt_gpu.main() == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["models"]["detector"]
    assert set(rows) == {"fp32", "fp16", "int8_cache", "int8_qdq"}
    for row in rows.values():
        assert row["within_tolerance"], row
        assert row["apis"] == {"tried": ["bindings", "named"], "largest_difference": 0.0}
        assert row["gpu_ms"]["samples"] == 3
    assert rows["fp16"]["ap_difference"] == 0.0
    assert rows["int8_qdq"]["ap_difference"] == 0.0
    assert "no file for it" in document["models"]["gesture"]["int8_qdq"]["error"]
    assert document["kernel"]["detector"]["levels_p99"] <= 1.01
    assert document["kernel"]["gesture"]["levels_p99"] <= 1.01
    loop = document["loops"]["detector fp16"]
    assert loop["ratio"] > 0
    assert loop["overlapped"]["samples"] == 2
    assert {"preprocess", "detect", "crop", "classify", "total"} <= set(loop["steps"])
    assert loop["deploy.run"]["frames"] == 2
    answers = document["bad_input"]
    assert "Magic tag does not match" in answers["cut engine"]
    assert "cannot read it" in answers["cut onnx"]
    assert "0 DLA cores" in answers["dla"]
    assert "lacks the ranges" in answers["poor cache"]


def test_builds_stop_when_the_time_is_over(
    gathered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)
    use_device(monkeypatch)
    capsys.readouterr()
    words = ["tensorrt_gpu", str(gathered), "--repeats", "3", "--budget-s", "0"]
    monkeypatch.setattr(sys, "argv", words)
    assert tensorrt_gpu.main() == 0
    document = json.loads(capsys.readouterr().out)
    errors = {row["error"] for rows in document["models"].values() for row in rows.values()}
    assert errors == {"left out, the time is over; raise --budget-s"}


def write_cubin(command: list[str]) -> str:
    Path(command[command.index("-o") + 1]).write_bytes(b"compiled")
    return ""
