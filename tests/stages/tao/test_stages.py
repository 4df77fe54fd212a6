"""The detector's stages with backend=tao, against the stand-in container."""

import csv
import json
from pathlib import Path

import pytest

from deploy.core.model_json import read_model_json
from deploy.engine import open_engine
from stages._tao_evaluate import whole_batch
from stages.detectnet.calibration_cache import parse_cache
from tests.stages.tao.conftest import Machine
from tests.stages.tao.definitions import parse
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


@pytest.mark.parametrize("step", ["train", "prune", "retrain"])
def test_tao_s_own_figure_stands_beside_ours_on_the_same_frames(root: Path, step: str) -> None:
    for name in CHAIN[: CHAIN.index(step) + 1]:
        assert run(name, root, sections()) == 0
    assert run(f"evaluate@{step}", root, sections()) == 0
    document = json.loads((root / f"results/evaluate/{step}.json").read_text())
    assert document["tao_map"] == 0.615
    assert document["num_images"] == 2
    assert {row["video"] for row in document["per_video"]} == {"V0", "V1"}
    speed = json.loads((root / f"results/evaluate/{step}_speed.json").read_text())
    assert (speed["engine"]["file"], speed["engine"]["precision"]) == ("detector.onnx", "fp32")
    assert not (root / f".work/evaluate-{step}").exists()


def test_tao_measures_the_frames_of_the_split_that_evaluate_names(
    root: Path, machine: Machine
) -> None:
    resolved = sections()
    assert run("train", root, resolved) == 0
    machine.break_next("evaluate", "crash")
    assert run("evaluate@train", root, resolved) == 1
    (work,) = root.glob(".work/evaluate-train/*")
    frames = {path.stem for path in (work / "sources/measured/images").iterdir()}
    assert frames == set((root / "data/split/test.txt").read_text().split())
    spec = parse((work / "specs/evaluate.txt").read_text(), "Experiment")
    assert spec.dataset_config.validation_data_source.image_directory_path == (  # type: ignore[attr-defined]
        "/workspace/hands/sources/measured"
    )


def test_encrypted_networks_are_measured_by_what_tao_finds(
    root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAO_KEY", "tlt_encode")
    machine.set_generation("tao4")
    resolved = sections(generation="tao4")
    assert [run(name, root, resolved) for name in ("train", "evaluate@train")] == [0, 0]
    assert read_model_json(root / "models/train").files == {"tao": "detector.tlt"}
    document = json.loads((root / "results/evaluate/train.json").read_text())
    # The stand-in finds one box in the middle of each frame, at half its width and height.
    assert (document["tao_map"], document["num_images"]) == (0.615, 2)
    assert document["ap50"] == 0.0
    speed = json.loads((root / "results/evaluate/train_speed.json").read_text())
    assert speed == {"engine": {"runtime": "tao"}}
    assert (root / "results/evaluate/train_samples.jpg").stat().st_size > 1000


def test_an_etlt_file_says_where_it_can_be_measured(
    root: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAO_KEY", "tlt_encode")
    machine.set_generation("tlt3")
    resolved = sections(generation="tlt3")
    assert [run(name, root, resolved) for name in CHAIN] == [0] * 4
    exported = read_model_json(root / "models/export")
    assert exported.files == {"etlt": "detector.etlt", "calibration": "calibration_qat.bin"}
    assert exported.is_encrypted
    assert run("evaluate@export", root, resolved) == 1
    assert "dvc repro evaluate@retrain" in capfd.readouterr().err


def test_retraining_loads_the_pruned_graph_and_quantizes_it(root: Path, machine: Machine) -> None:
    for name in ("train", "prune"):
        assert run(name, root, sections()) == 0
    machine.break_next("train", "crash")
    assert run("retrain", root, sections()) == 1
    (work,) = root.glob(".work/retrain/*")
    spec = parse((work / "specs/retrain.txt").read_text(), "Experiment")
    model = spec.model_config  # type: ignore[attr-defined]
    assert (model.load_graph, model.pretrained_model_file) == (
        True,
        "/workspace/hands/models/pruned.hdf5",
    )
    assert spec.training_config.enable_qat  # type: ignore[attr-defined]
    pruned = (root / "models/prune/detector.hdf5").read_bytes()
    assert (work / "models/pruned.hdf5").read_bytes() == pruned


def test_a_pretrained_file_is_handed_in_and_another_one_starts_anew(
    root: Path, machine: Machine
) -> None:
    resolved = sections(checkpoint_interval_epochs=1)
    for number in (1, 2):
        (root / f"{number}.hdf5").write_text(
            json.dumps({"wh": [96, 64], "qat": False}) + " " * number
        )
        resolved["model"]["pretrained"] = f"{number}.hdf5"
        machine.break_next("train", "killed")
        assert run("train", root, resolved) == 1
    works = sorted(root.glob(".work/train/*/*/specs/train.txt"))
    assert len(works) == 2
    spec = parse(works[0].read_text(), "Experiment")
    name = spec.model_config.pretrained_model_file  # type: ignore[attr-defined]
    assert name == "/workspace/hands/models/pretrained.hdf5"


def test_encrypted_peoplenet_wants_its_own_key(
    root: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAO_KEY", "another")
    machine.set_generation("tao4")
    resolved = sections(generation="tao4")
    resolved["model"]["pretrained"] = "peoplenet"
    assert run("train", root, resolved) == 1
    assert "export TAO_KEY=tlt_encode" in capfd.readouterr().err


def test_the_open_backends_settings_stop_the_stage_before_docker(
    root: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    resolved = {**sections(), "train": {"epochs": 2}}
    assert run("train", root, resolved) == 1
    assert "error: backend=tao cannot do: train." in capfd.readouterr().err
    assert machine.tasks() == []


def test_validation_frames_that_make_no_whole_batch_stop_the_stage(
    root: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    resolved = sections()
    resolved["train"]["batch_size"] = 4
    assert run("train", root, resolved) == 1
    assert "2 validation frames are no whole batch of 4" in capfd.readouterr().err
    assert machine.tasks() == []


@pytest.mark.parametrize(("num_frames", "size"), [(1, 1), (16, 16), (34, 2), (37, 1), (60, 15)])
def test_no_frame_is_left_out_of_tao_s_own_figure(num_frames: int, size: int) -> None:
    assert whole_batch(num_frames) == size
