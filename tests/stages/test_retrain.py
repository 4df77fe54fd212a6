"""The stage `retrain` on five frames of red squares (imports modelopt, which takes seconds)."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml

from stages import retrain
from stages.detectnet import retraining, training
from stages.detectnet.checkpoint import load_checkpoint, save_model
from stages.detectnet.model import build_network
from stages.detectnet.training import FitResult
from stages.retrain import run
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder
from tests.stages.detectnet.tiny import POSTPROCESS, tiny_model
from tests.stages.stage_runs import UNTRACKED, run_stage

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
FRESH = {**SECTIONS, "retrain": {**SECTIONS["retrain"], "weights": "fresh"}}

# Lightning Fabric asks for more workers or tunes threads; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root where the stage ran through."""
    return run_through(tmp_path_factory.mktemp("retrain"), SECTIONS)


def run_through(folder: Path, sections: Mapping[str, object]) -> Path:
    """Make a root in which the stage has run; return it."""
    root = make_root(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run_stage("retrain", run, root, sections, monkeypatch) == 0
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


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root where the stage ran through from fresh weights."""
    return run_through(tmp_path_factory.mktemp("fresh"), FRESH)


def test_of_the_pruned_network_fresh_weights_take_the_shape_alone(
    fresh: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, ranges = load_checkpoint(fresh / "models/retrain")
    trained_on, _ = load_checkpoint(finished / "models/retrain")
    assert ranges is not None
    assert made.architecture == trained_on.architecture
    assert not torch.equal(made.conv1.weight, trained_on.conv1.weight)
    root = make_root(tmp_path)
    other = build_network(made.architecture, seed=9)
    save_model(root / "models/prune", other, postprocess=POSTPROCESS)
    assert run_stage("retrain", run, root, FRESH, monkeypatch) == 0
    for name in ("models/retrain/model.pt", "results/retrain/history.csv"):
        assert (root / name).read_bytes() == (fresh / name).read_bytes()


def test_a_killed_run_from_fresh_weights_goes_on_to_the_same_bytes(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it, a run that trained the pruned weights on was killed as well."""
    root = make_root(tmp_path)
    real_save = training.save_checkpoint

    def save_and_die(*args: object) -> None:
        real_save(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", save_and_die)
    for sections in (SECTIONS, FRESH):
        with pytest.raises(KeyboardInterrupt):
            run_stage("retrain", run, root, sections, monkeypatch)
    monkeypatch.setattr(training, "save_checkpoint", real_save)
    assert run_stage("retrain", run, root, FRESH, monkeypatch) == 0
    for name in ("models/retrain/model.pt", "results/retrain/history.csv"):
        assert (root / name).read_bytes() == (fresh / name).read_bytes()


@pytest.mark.parametrize("weights", [{"weights": "fresh", "float_fit": None}, {"weights": "new"}])
def test_weights_that_cannot_be_are_one_line(
    weights: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sections = {**SECTIONS, "retrain": {**SECTIONS["retrain"], **weights}}
    assert run_stage("retrain", run, tmp_path, sections, monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: section retrain: retrain.weights is ")


def test_two_devices_train_fresh_weights_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what is each device's own: batch normalisation's statistics, balanced losses.

    The teacher is asked on each device; the second epoch's loss has seen a step of both.
    """
    one, two = (make_root(tmp_path / name) for name in ("one", "two"))
    plain = {"freeze_batch_norm": True, "loss": {"coverage": "tao", "bbox": "tao"}}
    fit = {**FIT, "epochs": 2, **plain}
    sections = {**FRESH, "retrain": {**FRESH["retrain"], "float_fit": {**fit, "batch_size": 4}}}
    assert run_stage("retrain", run, one, sections, monkeypatch) == 0
    halves = {"float_fit": fit, "qat_fit": {**FIT, "devices": "auto"}}
    sections = {**FRESH, "retrain": {**FRESH["retrain"], **halves}}
    (two / "resolved.yaml").write_text(yaml.safe_dump({**UNTRACKED, **sections}))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "-m", "stages.retrain"],
        cwd=two,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (read_losses(root)[:2] for root in (two, one))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert (two / "models/retrain/model.pt").is_file()


def read_losses(root: Path) -> list[float]:
    with (root / "results/retrain/history.csv").open() as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


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
