"""The choice by table, and the stage on the tiny models with the runtimes that are installed."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deploy.core.errors import UserError
from deploy.core.model_json import read_model_json
from deploy.machine import describe_machine, fingerprint
from deploy.models import Choice as PlannedChoice
from deploy.models import choose_engine
from stages import _engines
from stages._device_config import DeviceConfig
from stages._engines import Measured, candidates, choice_document, choose
from stages.engines import run
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder
from tests.deploy.tiny_models import (
    detector_info,
    write_classifier,
    write_detector,
    write_encrypted,
)
from tests.stages.stage_runs import run_stage

CONFIG = DeviceConfig(eval_images=4, warmup=1, repeats=3)


def engine(name: str, min_ms: float, ap50: float = 0.9, max_difference: float = 1e-6) -> Measured:
    runtime, precision = name.split("_")
    return Measured(
        runtime=runtime,
        precision=precision,
        version="1",
        file="detector.onnx",
        threads=2,
        ap=ap50 / 2,
        ap50=ap50,
        max_difference=max_difference,
        detector_ms={"min_ms": min_ms, "p50_ms": 100.0},
        gesture_ms=None,
        gesture_agreement=None,
    )


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([("openvino_int8", 1.0)], "openvino_int8"),
        ([("openvino_int8", 1.0), ("onnxruntime_fp32", 3.0)], "openvino_int8"),
        ([("openvino_int8", 3.0), ("onnxruntime_fp32", 1.0)], "onnxruntime_fp32"),
        ([("openvino_int8", 1.05), ("openvino_fp32", 1.0)], "openvino_int8"),
        ([("openvino_int8", 1.2), ("openvino_fp32", 1.0)], "openvino_fp32"),
        ([("openvino_int8", 1.0, 0.879), ("openvino_fp32", 3.0, 0.9)], "openvino_fp32"),
        ([("openvino_int8", 1.0, 0.881), ("openvino_fp32", 3.0, 0.9)], "openvino_int8"),
        ([("openvino_int8", 1.0, 0.9, 0.3), ("openvino_fp32", 3.0)], "openvino_int8"),
        ([("openvino_fp32", 1.0, 0.9, 0.3), ("onnxruntime_fp32", 3.0)], "onnxruntime_fp32"),
    ],
    ids=[
        "only one",
        "fastest",
        "faster though later",
        "equal within a tenth: earlier",
        "not equal",
        "too inaccurate",
        "accurate enough",
        "int8 may differ",
        "fp32 may not",
    ],
)
def test_choice_by_table(measured: list[tuple], expected: str) -> None:
    engines = [engine(*values) for values in measured]
    choice = choose(engines, CONFIG)
    assert f"{choice.runtime}_{choice.precision}" == expected
    assert set(choice.rejected) == {e.name for e in engines} - {expected}
    assert "ms" in choice.reason


def test_every_engine_with_wrong_outputs_is_an_error_that_says_so() -> None:
    with pytest.raises(UserError, match=r"openvino_fp32: outputs differ by 0\.5 .*fp32_tolerance"):
        choose([engine("openvino_fp32", 1.0, 0.9, 0.5)], CONFIG)


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (
            ["openvino", "onnxruntime"],
            ["openvino int8", "openvino fp32", "onnxruntime int8", "onnxruntime fp32"],
        ),
        (["onnxruntime"], ["onnxruntime int8", "onnxruntime fp32"]),
        ([], []),
    ],
)
def test_candidates_are_what_is_configured_and_installed(
    installed: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_engines, "installed_runtimes", lambda: installed)
    assert [" ".join(pair) for pair in candidates(detector_info(), CONFIG)] == expected
    with_bf16 = replace(CONFIG, precisions=["bf16"])
    expected = ["openvino bf16"] if "openvino" in installed else []
    assert [" ".join(pair) for pair in candidates(detector_info(), with_bf16)] == expected


def test_document_names_model_and_machine() -> None:
    measured = [engine("openvino_int8", 1.0)]
    machine = {"fingerprint": "f" * 16, "machine": {"cpu": "x"}}
    model = detector_info(sha256={"detector.onnx": "0" * 64})
    document = choice_document(choose(measured, CONFIG), measured, machine=machine, model=model)
    assert document["sha256"] == {"detector.onnx": "0" * 64}
    assert document["fingerprint"] == "f" * 16
    assert document["choice"]["runtime"] == "openvino"
    json.dumps(document)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository root with labelled frames and the two models."""
    write_kitti_folder(tmp_path / "data" / "kitti")
    (tmp_path / "data" / "split").mkdir()
    (tmp_path / "data" / "split" / "test.txt").write_text("\n".join(sorted(FRAMES)) + "\n")
    write_detector(tmp_path / "models" / "export")
    write_classifier(tmp_path / "models" / "gesture")
    return tmp_path


def test_stage_measures_every_engine_and_its_choice_is_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("engines", run, root, {"device": asdict(CONFIG)}, monkeypatch) == 0
    metrics = json.loads((root / "results" / "engines.json").read_text())
    names = ["onnxruntime_fp32", "onnxruntime_int8", "openvino_fp32", "openvino_int8"]
    assert sorted(metrics) == names
    for name, figures in metrics.items():
        assert figures["ap50"] == 1.0
        # Quantised to 1/127 the coverage moves by at most 0.02 (tests/deploy/test_engine.py).
        assert figures["max_difference"] <= (1e-4 if name.endswith("fp32") else 0.02)
    assert metrics["openvino_fp32"]["gesture_agreement"] == 1.0
    assert "gesture_agreement" not in metrics["openvino_int8"]

    written = json.loads((root / "results" / "engines" / "this-machine.json").read_text())
    assert written["fingerprint"] == fingerprint(describe_machine())
    assert len(written["engines"]) == 4
    steps = {"mean_ms", "min_ms", "p50_ms", "p90_ms", "p99_ms", "samples"}
    assert set(written["engines"][0]["detector_ms"]) == steps
    detector = root / "models" / "export"
    assert written["sha256"] == read_model_json(detector).sha256
    chosen = choose_engine(detector, runtime="auto", precision="auto", root=root)
    expected = PlannedChoice(written["choice"]["runtime"], written["choice"]["precision"])
    assert chosen == expected


def test_beside_an_encrypted_gesture_model_the_detector_is_measured_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(root / "models" / "gesture")
    write_encrypted(root / "models" / "gesture")
    caplog.set_level("INFO")
    assert run_stage("engines", run, root, {"device": asdict(CONFIG)}, monkeypatch) == 0
    metrics = json.loads((root / "results" / "engines.json").read_text())
    assert len(metrics) == 4
    assert {figures["ap50"] for figures in metrics.values()} == {1.0}
    assert not [name for name in metrics if "gesture_agreement" in metrics[name]]
    assert "the gesture model is encrypted, only the detector is measured" in caplog.text


def test_metrics_are_equal_from_run_to_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "results" / "engines.json"
    contents = []
    for _ in range(2):
        assert run_stage("engines", run, root, {"device": asdict(CONFIG)}, monkeypatch) == 0
        contents.append(place.read_bytes())
    assert contents[0] == contents[1]


def test_without_any_runtime_it_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_engines, "installed_runtimes", lambda: [])
    assert run_stage("engines", run, root, {"device": asdict(CONFIG)}, monkeypatch) == 1
    assert "none of device.runtimes (openvino, onnxruntime)" in capsys.readouterr().err
    assert not (root / "results").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runtimes": ["tensorflow"]}, "device.runtimes is 'tensorflow', known: openvino"),
        ({"precisions": []}, "device.precisions is empty"),
        ({"targets": ["jetson"]}, "known: this-machine"),
        ({"repeats": 0}, "device.repeats is 0, expected 1"),
        ({"max_ap50_drop": -0.1}, "expected 0 or more"),
    ],
)
def test_senseless_configuration_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeviceConfig(**changes)
