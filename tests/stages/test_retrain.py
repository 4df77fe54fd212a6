"""The stage `retrain` on five frames of red squares (imports modelopt, which takes seconds)."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from stages import retrain
from stages.detectnet import retraining
from stages.detectnet.checkpoint import load_checkpoint, save_model
from stages.detectnet.training import FitResult
from stages.retrain import run
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder
from tests.stages.detectnet.tiny import POSTPROCESS, tiny_model
from tests.stages.stage_runs import run_stage

ROOT = Path(__file__).parents[2]
FIT = {"epochs": 1, "batch_size": 2, "accelerator": "cpu", "precision": "32-true"}
SECTIONS = {
    "postprocess": POSTPROCESS._asdict(),
    "retrain": {
        "float_fit": {**FIT, "validate_every_epochs": 1},
        "qat_fit": {**FIT, "epochs": 2, "validate_every_epochs": 1},
        "calibration": {"images": 4},
        "distill_weight": 0.5,
    },
}

# Lightning Fabric asks for more workers or tunes threads; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root where the stage ran through."""
    root = make_root(tmp_path_factory.mktemp("retrain"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run_stage("retrain", run, root, SECTIONS, monkeypatch) == 0
    return root


def make_root(root: Path) -> Path:
    write_kitti_folder(root / "data" / "kitti")
    (root / "data" / "split").mkdir()
    stems = sorted(FRAMES)
    (root / "data" / "split" / "train.txt").write_text("\n".join(stems[:4]) + "\n")
    (root / "data" / "split" / "val.txt").write_text(stems[4] + "\n")
    for name, width in (("train", 24), ("prune", 16)):
        (root / "models" / name).mkdir(parents=True)
        save_model(root / "models" / name, tiny_model(width=width), postprocess=POSTPROCESS)
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    return root


def test_a_quantized_network_comes_out(finished: Path) -> None:
    model, ranges = load_checkpoint(finished / "models" / "retrain")
    assert ranges is not None
    assert "conv1.input_quantizer" in ranges
    assert model.architecture == tiny_model(width=16).architecture


def test_history_counts_both_phases_on(finished: Path) -> None:
    with (finished / "results" / "retrain" / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["epoch"], row["quantized"]) for row in rows] == [
        ("1", "0"),
        ("2", "1"),
        ("3", "1"),
    ]
    metrics = json.loads((finished / "results" / "retrain.json").read_text())
    assert metrics["epochs"] == 3
    assert {"ap50", "float_ap50", "ptq_ap50"} <= metrics.keys()


def test_checkpoints_are_gone_after_success(finished: Path) -> None:
    assert not (finished / ".work" / "retrain").exists()


def test_a_killed_run_goes_on_to_the_same_bytes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_root(tmp_path)
    real_fit = retraining.fit
    phases = []

    def fit_until_killed(*args: object, **options: object) -> object:
        phases.append(options["work_dir"])
        result = real_fit(*args, **options)
        if len(phases) == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(retraining, "fit", fit_until_killed)
    with pytest.raises(KeyboardInterrupt):
        run_stage("retrain", run, root, SECTIONS, monkeypatch)
    assert not (root / "models" / "retrain").exists()
    monkeypatch.setattr(retraining, "fit", real_fit)
    assert run_stage("retrain", run, root, SECTIONS, monkeypatch) == 0
    for name in ("models/retrain/model.pt", "results/retrain/history.csv"):
        assert (root / name).read_bytes() == (finished / name).read_bytes()


def test_a_helper_process_writes_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process may not be done yet: results and checkpoints are its own."""
    root = make_root(tmp_path)

    def retrain_model(*_: object, work_dir: Path, **__: object) -> retraining.Retrained:
        (work_dir / "checkpoint").touch()
        result = FitResult(tiny_model(), [], {}, is_main=False)
        return retraining.Retrained(tiny_model(), None, {}, result)

    monkeypatch.setattr(retrain, "retrain_model", retrain_model)
    with pytest.raises(SystemExit) as caught:
        run_stage("retrain", run, root, SECTIONS, monkeypatch)
    assert caught.value.code == 0
    assert len(list((root / ".work/retrain").rglob("checkpoint"))) == 1
    assert not (root / "models/retrain").exists()
    assert not (root / "results").exists()


def test_the_float_phase_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_root(tmp_path)
    section = {**SECTIONS["retrain"], "float_fit": None}
    sections = {**SECTIONS, "retrain": section}
    assert run_stage("retrain", run, root, sections, monkeypatch) == 0
    metrics = json.loads((root / "results" / "retrain.json").read_text())
    assert metrics["epochs"] == 2
    assert "float_ap50" not in metrics


def test_without_distillation_the_unpruned_network_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_root(tmp_path)
    shutil.rmtree(root / "models" / "train")
    assert run_stage("retrain", run, root, SECTIONS, monkeypatch) == 1
    assert "error: models/train is not there; run the stages before" in capsys.readouterr().err
    section = {**SECTIONS["retrain"], "float_fit": None, "distill_weight": 0.0}
    assert run_stage("retrain", run, root, {**SECTIONS, "retrain": section}, monkeypatch) == 0
