import csv
import json
from pathlib import Path

import pytest

from deploy.core.model_json import check_sha256, read_model_json
from stages.detectnet.checkpoint import load_model, save_model
from stages.detectnet.model import count_parameters
from stages.prune import run
from tests.stages.detectnet.tiny import POSTPROCESS, tiny_model
from tests.stages.stage_runs import run_stage

SECTIONS = {"prune": {"params_frac": 0.5, "granularity": 2, "min_filters": 2}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "train"
    folder.mkdir(parents=True)
    save_model(folder, tiny_model(), postprocess=POSTPROCESS)
    return tmp_path


def test_network_table_and_totals_agree(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    model = load_model(root / "models" / "prune")
    totals = json.loads((root / "results" / "prune.json").read_text())
    assert totals["params_before"] == count_parameters(tiny_model())
    assert totals["params_after"] == count_parameters(model)
    assert totals["params_frac"] <= 0.5
    with (root / "results" / "prune" / "layers.csv").open() as stream:
        layers = {row["name"]: row for row in csv.DictReader(stream)}
    for name, depth in model.architecture.channels.items():
        assert int(layers[name]["channels_after"]) == depth
    assert sum(int(row["macs_after"]) for row in layers.values()) == totals["macs_after"]


def test_the_trained_networks_postprocessing_travels_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    info = read_model_json(root / "models" / "prune")
    check_sha256(root / "models" / "prune", info)
    assert info.postprocess == POSTPROCESS


def test_equal_inputs_give_equal_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    first = (root / "models" / "prune" / "model.pt").read_bytes()
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    assert (root / "models" / "prune" / "model.pt").read_bytes() == first


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"params_frac": 0.001}, "prune.params_frac is 0.001, but granularity 8"),
        ({"threshold": 0.5}, "expected exactly one of them"),
        ({"treshold": 0.5}, "known keys: equalization"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_the_earlier_result(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    section: dict[str, float],
    message: str,
) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    before = (root / "models" / "prune" / "model.pt").read_bytes()
    capsys.readouterr()
    assert run_stage("prune", run, root, {"prune": section}, monkeypatch) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert (root / "models" / "prune" / "model.pt").read_bytes() == before


def test_a_missing_model_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("prune", run, tmp_path, SECTIONS, monkeypatch) == 1
    assert "models/train is not there" in capsys.readouterr().err
