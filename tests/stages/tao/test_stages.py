"""The detector's stages with backend=tao, against the stand-in container."""

import csv
import json
from pathlib import Path

import pytest

from deploy.core.model_json import read_model_json
from deploy.engine import open_engine
from stages.detectnet.calibration_cache import parse_cache
from tests.stages.tao.conftest import Machine
from tests.stages.tao.project import run, sections, write_project

CHAIN = ("train", "prune", "retrain", "export")


@pytest.fixture
def root(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def test_from_training_to_export_every_stage_writes_what_the_next_one_reads(root: Path) -> None:
    assert [run(name, root, sections()) for name in CHAIN] == [0, 0, 0, 0]
    exported = read_model_json(root / "models/export")
    assert exported.files == {"fp32": "detector.onnx", "calibration": "calibration_qat.bin"}
    assert set(exported.outputs) == {"output_cov/Sigmoid", "output_bbox/BiasAdd"}
    cache = parse_cache((root / "models/export/calibration_qat.bin").read_text(), source="cache")
    assert cache.scales["input_1"] == pytest.approx(1.0 / 127)
    assert cache.scales["block_4a_relu/Relu:0"] == pytest.approx(6.0 / 127)
    with open_engine(root / "models/export", runtime="onnxruntime") as engine:
        assert engine.info()["precision"] == "fp32"
    with (root / "results/train/history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["val_tao_map"] for row in rows] == ["", "0.42"]
    metrics = json.loads((root / "results/prune.json").read_text())
    assert metrics["params_frac"] == 0.63
    assert not (root / ".work/retrain").exists()
