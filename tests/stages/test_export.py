import json
from pathlib import Path

import pytest

from deploy.core.model_json import check_sha256, read_model_json
from stages.detectnet.checkpoint import save_model
from stages.detectnet.folding import fold_batch_norm
from stages.export import run
from tests.stages.detectnet.tiny import (
    POSTPROCESS,
    known_ranges,
    tiny_images,
    tiny_model,
    write_another_network,
)
from tests.stages.stage_runs import run_stage

SECTIONS = {"export": {"check_images": 1}, "postprocess": POSTPROCESS._asdict()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "retrain"
    folder.mkdir(parents=True)
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images())
    save_model(folder, model, postprocess=POSTPROCESS, ranges=ranges)
    return tmp_path


def test_folder_holds_what_model_json_lists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_stage("export", run, root, SECTIONS, monkeypatch) == 0
    folder = root / "models" / "export"
    info = read_model_json(folder)
    check_sha256(folder, info)
    assert dict(info.files) == {
        "fp32": "detector.onnx",
        "qdq": "detector_qdq.onnx",
        "calibration": "calibration_qat.bin",
    }
    assert {path.name for path in folder.iterdir()} == {"model.json", *info.files.values()}
    metrics = json.loads((root / "results" / "export.json").read_text())
    assert metrics["fp32_coverage_difference"] <= 1e-4
    assert (
        metrics["calibration_tensors"] == 27
    )  # 9 convolutions + 4 shortcuts + 4 adds + 9 ReLUs + 1


def test_postprocessing_comes_from_the_configuration(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = POSTPROCESS._replace(confidence_threshold=0.75)
    sections = {**SECTIONS, "postprocess": changed._asdict()}
    assert run_stage("export", run, root, sections, monkeypatch) == 0
    assert read_model_json(root / "models" / "export").postprocess == changed


def test_a_difference_above_the_tolerance_leaves_the_earlier_result(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("export", run, root, SECTIONS, monkeypatch) == 0
    before = (root / "models" / "export" / "model.json").read_bytes()
    write_another_network(monkeypatch, opset=13)
    capsys.readouterr()
    assert run_stage("export", run, root, SECTIONS, monkeypatch) == 1
    assert capsys.readouterr().err.startswith("error: detector_qdq.onnx differs from PyTorch by")
    assert (root / "models" / "export" / "model.json").read_bytes() == before


def test_a_float_network_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(root / "models" / "retrain", tiny_model(), postprocess=POSTPROCESS)
    assert run_stage("export", run, root, SECTIONS, monkeypatch) == 1
    assert "export starts from models/retrain" in capsys.readouterr().err
    assert not (root / "models" / "export").exists()
