"""The train stage, end to end on a few drawn squares."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from deploy.core.errors import UserError
from deploy.core.model_json import read_model_json
from stages import train
from stages._stage import main
from stages.detectnet.checkpoint import load_model, save_model
from stages.detectnet.config import ModelConfig
from stages.detectnet.model import DetectNet
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples, write_kitti
from tests.stages.stage_runs import run_stage

SECTIONS = {
    "model": {"num_layers": 10, "width": 4, "input_wh": list(INPUT_WH)},
    "postprocess": POSTPROCESS._asdict(),
    "train": {
        "epochs": 2,
        "batch_size": 4,
        "validate_every_epochs": 1,
        "accelerator": "cpu",
        "precision": "32-true",
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository root with eight frames, six of them for training."""
    samples = draw_samples(8)
    write_kitti(tmp_path / "data/kitti", samples)
    (tmp_path / "data/split").mkdir()
    for side, stems in (("train", samples.stems[:6]), ("val", samples.stems[6:])):
        (tmp_path / f"data/split/{side}.txt").write_text("\n".join(stems) + "\n")
    stages = {"train": {"deps": ["data/split"]}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return tmp_path


def test_outputs_belong_together(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_stage("train", train.run, root, SECTIONS, monkeypatch) == 0
    model = load_model(root / "models/train")
    coverage, _ = model(torch.zeros(1, 3, INPUT_WH[1], INPUT_WH[0]))
    assert coverage.shape == (1, 1, 4, 6)
    assert read_model_json(root / "models/train").postprocess == POSTPROCESS
    with (root / "results/train/history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    metrics = json.loads((root / "results/train.json").read_text())
    assert [float(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[1]["val_ap50"]) == pytest.approx(metrics["ap50"], abs=1e-5)
    assert float(rows[1]["loss"]) == pytest.approx(metrics["loss"], rel=1e-4)
    assert not (root / ".work/train").exists()


def test_equal_runs_give_equal_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("models/train/model.pt", "models/train/model.json", "results/train/history.csv")
    contents = []
    for _ in range(2):
        assert run_stage("train", train.run, root, SECTIONS, monkeypatch) == 0
        contents.append([(root / path).read_bytes() for path in paths])
    assert contents[0] == contents[1]


def test_seed_decides_the_first_weights() -> None:
    config = ModelConfig(width=4, input_wh=[32, 32])
    first, same, other = (train.build_model(config, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.conv1.weight, same.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_names_of_nvidias_catalogue_and_keras_files_are_checked_before_training(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="set model=resnet34"):
        train.find_pretrained(ModelConfig(num_layers=10, pretrained="peoplenet"))
    path = tmp_path / "model.hdf5"
    path.write_bytes(b"x")
    assert train.find_pretrained(ModelConfig(pretrained=str(path))) == path
    with pytest.raises(UserError, match="pretrained_sha256 says ab"):
        train.find_pretrained(ModelConfig(pretrained=str(path), pretrained_sha256="ab"))
    assert train.find_pretrained(ModelConfig()) is None


def test_training_starts_from_pretrained_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    starts, places = [], []

    def no_fit(model: DetectNet, *_samples: object, work_dir: Path, **_options: object) -> None:
        starts.append(model)
        places.append(work_dir)
        raise UserError("killed")

    folder = root / "earlier"
    changed = {**SECTIONS, "model": {**SECTIONS["model"], "pretrained": "earlier"}}
    monkeypatch.setattr(train, "fit", no_fit)
    assert run_stage("train", train.run, root, changed, monkeypatch) == 1
    assert "error: model.pretrained is earlier; there is no such" in capsys.readouterr().err
    for seed in (1, 2):
        earlier = train.build_model(ModelConfig(width=4, input_wh=[32, 32]), seed=seed)
        folder.mkdir(exist_ok=True)
        save_model(folder, earlier, postprocess=POSTPROCESS)
        assert run_stage("train", train.run, root, changed, monkeypatch) == 1
        assert torch.equal(starts[-1].conv1.weight, earlier.conv1.weight)
    # The checkpoints of a run that began with other weights are not gone on with.
    assert places[0] != places[1]
    assert run_stage("train", train.run, root, changed, monkeypatch) == 1
    assert places[2] == places[1]


@pytest.mark.parametrize(("kind", "told"), [("foot", "have foot;"), (None, "have no box at all;")])
def test_a_class_that_is_never_seen_is_one_line(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str | None,
    told: str,
) -> None:
    for path in (root / "data/kitti/labels").iterdir():
        path.write_text(path.read_text().replace("hand", kind) if kind else "")
    assert run_stage("train", train.run, root, SECTIONS, monkeypatch) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(
        "error: none of the 6 frames to train on has a box of the class 'hand'"
    )
    assert told in error
    assert not (root / "models/train").exists()


def test_unreadable_frame_is_one_line_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = next((root / "data/kitti/images").iterdir())
    frame.write_bytes(b"no picture")
    assert run_stage("train", train.run, root, SECTIONS, monkeypatch) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert frame.name in error
    assert not (root / "models/train").exists()


def test_help_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main("train", train.run, argv=["--help"])
    assert caught.value.code == 0
    assert "models/train" in capsys.readouterr().out
