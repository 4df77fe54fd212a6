import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.core.model_json import check_sha256, read_model_json
from stages import prune
from stages.detectnet.checkpoint import load_model, save_model
from stages.detectnet.data import Samples
from stages.detectnet.model import count_parameters
from stages.prune import run
from tests.stages.detectnet.pictures import draw_samples, write_kitti
from tests.stages.detectnet.tiny import POSTPROCESS, tiny_model
from tests.stages.stage_runs import run_stage

PRUNE = {"params_frac": 0.5, "granularity": 2, "min_filters": 2}
SECTIONS = {"prune": {**PRUNE, "sensitivity": {"images": 3, "kept_fracs": [1.0, 0.5]}}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "train"
    folder.mkdir(parents=True)
    save_model(folder, tiny_model(), postprocess=POSTPROCESS)
    samples = draw_samples(5)
    write_kitti(tmp_path / "data/kitti", samples)
    write_val_split(tmp_path, samples.stems)
    return tmp_path


def write_val_split(root: Path, stems: Sequence[str]) -> None:
    (root / "data/split").mkdir(exist_ok=True)
    (root / "data/split/val.txt").write_text("\n".join(stems))


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


def test_without_matplotlib_the_table_comes_alone_and_the_log_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("INFO"):
        assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    assert "no sensitivity.png, matplotlib is not installed" in caplog.text
    assert (root / "results/prune/sensitivity.csv").is_file()
    assert not (root / "results/prune/sensitivity.png").exists()


def test_the_trained_networks_postprocessing_travels_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    info = read_model_json(root / "models" / "prune")
    check_sha256(root / "models" / "prune", info)
    assert info.postprocess == POSTPROCESS


def test_equal_inputs_give_equal_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> dict[str, bytes]:
        assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
        files = [*(root / "models/prune").iterdir(), *(root / "results/prune").iterdir()]
        return {path.name: path.read_bytes() for path in files}

    first = written()
    names = {"layers.csv", "model.json", "model.pt", "sensitivity.csv", "sensitivity.png"}
    assert set(first) == names
    assert written() == first


def test_sensitivity_has_a_line_per_group_and_fraction(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    with (root / "results/prune/sensitivity.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["kept_frac"] for row in rows] == ["1.0", "0.5"] * 9
    assert rows[0]["convolutions"] == "conv1"
    assert rows[5]["convolutions"] == "block_1a_conv_2+block_1a_conv_shortcut"
    assert (rows[5]["channels"], rows[5]["kept"]) == ("8", "4")
    for row in rows[::2]:
        assert [row[name] for name in ("macs_saved_frac", "ap50_drop")] == ["0.0", "0.0"]


@pytest.mark.parametrize(
    ("num_images", "num_stems", "reason"),
    [(0, 5, ""), (3, 0, "none of 0 validation frames"), (3, 1, "none of 1 validation frames")],
)
def test_without_validation_boxes_the_network_is_pruned_without_that_table(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_images: int,
    num_stems: int,
    reason: str,
) -> None:
    stems = draw_samples(5).stems[:num_stems]
    write_val_split(root, stems)
    (root / f"data/kitti/labels/{draw_samples(1).stems[0]}.txt").write_text("")
    sections = {"prune": {**PRUNE, "sensitivity": {"images": num_images}}}
    with caplog.at_level("INFO", logger="stages.prune"):
        assert run_stage("prune", run, root, sections, monkeypatch) == 0
    assert [path.name for path in (root / "results/prune").iterdir()] == ["layers.csv"]
    lines = [line for line in caplog.messages if "sensitivity" in line]
    assert len(lines) == bool(reason)
    assert reason in "".join(lines)


def test_the_frames_are_spread_over_the_validation_split(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def load(_kitti: Path, stems: list[str], **_options: object) -> Samples:
        seen.extend(stems)
        return draw_samples(len(stems))

    monkeypatch.setattr(prune, "load_samples", load)
    assert run_stage("prune", run, root, SECTIONS, monkeypatch) == 0
    stems = draw_samples(5).stems
    assert seen == [stems[0], stems[2], stems[4]]


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
