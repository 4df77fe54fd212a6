"""`dvc repro` with backend=tao, from drawn data to the bundle, against the stand-in container."""

import json
from pathlib import Path

import pytest
import yaml

from tests.stages.tao.conftest import Machine
from tests.test_pipeline import call, fresh_copy, stage_names

OVERRIDES = {
    "dataset": {
        "render": {
            "image_wh": [480, 270],
            "train_videos": 3,
            "val_videos": 1,
            "test_videos": 2,
            "frames_per_video": 8,
        }
    },
    "model": {"num_layers": 10, "input_wh": [320, 192]},
    "train": {"epochs": 3},
    "retrain": {"qat_fit": {"epochs": 2}},
    "gesture": {"epochs": 2},
    "device": {"eval_images": 6, "warmup": 1, "repeats": 3},
    "evaluate": {"speed_images": 4},
    "backend": {"tao": {"via": "docker", "checkpoint_interval_epochs": 1}},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # MLflow's own imports warn (pydantic, SQLAlchemy, importlib): not ours to mend.
    pytest.mark.filterwarnings("ignore::Warning"),
]


def test_the_pipeline_fails_in_one_line_and_then_goes_from_data_to_bundle(
    tmp_path: Path, machine: Machine
) -> None:
    params = {"backend": "tao", "overrides": OVERRIDES}
    project = fresh_copy(tmp_path, **params)  # type: ignore[arg-type]
    machine.break_next("train", "killed")
    printed = call(project, "dvc", "repro", status=255)
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert "in the middle, in epoch 3" in line
    assert "Traceback" not in printed
    call(project, "dvc", "repro")
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert sorted(lock) == sorted(stage_names())
    assert (project / "dist/hand-gestures.tar.gz").is_file()
    resumed = (project / "results/train/history.csv").read_text()
    assert [row[:2] for row in resumed.splitlines()[1:]] == ["1,", "2,", "3,"]
    check_figures(project)
    check_curves(project)
    assert "Running stage" not in call(project, "dvc", "repro")


def check_figures(project: Path) -> None:
    for step in ("train", "prune", "retrain", "export"):
        document = json.loads((project / f"results/evaluate/{step}.json").read_text())
        assert 0.0 <= document["ap50"] <= 1.0
        assert document.get("tao_map") == (None if step == "export" else 0.615)
    choice = json.loads((project / "results/engines/this-machine.json").read_text())["choice"]
    assert choice["precision"] == "fp32"
    report = (project / "results/report.md").read_text()
    assert "| mAP by TAO itself |" in report
    assert "| export | exported, FP32 (INT8 with its cache) |" in report


def check_curves(project: Path) -> None:
    """MLflow has the loss of every epoch, and nothing that is secret."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("hand-gestures")
    runs = client.search_runs([experiment.experiment_id])
    finished = [run for run in runs if run.info.status == "FINISHED"]
    (train,) = [run for run in finished if run.data.tags.get("dvc.stage") == "train"]
    points = client.get_metric_history(train.info.run_id, "train/loss")
    # Step 0 is the stage's final value, as of every stage.
    assert [point.step for point in points] == [1, 2, 3, 0]
    assert [round(point.value, 4) for point in points] == [0.1, 0.05, 0.0333, 0.0333]
    (ap,) = client.get_metric_history(train.info.run_id, "val/tao_map")
    assert (ap.step, ap.value) == (3, 0.43)
    assert train.data.params["backend.tao.generation"] == "tao5"
    files = {item.path for item in client.list_artifacts(train.info.run_id)}
    assert "experiment.txt" in files
