"""Tracking against a real MLflow store: parents, nested runs, failures, cold start by many."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stages._schema import TrackingConfig
from stages._tracking import (
    KEY_TAG,
    MlflowTracker,
    Tracker,
    TrackingError,
    connect,
    experiment_id,
    main_root,
    open_tracker,
    store_uri,
)

LOCAL = TrackingConfig(mode="local", experiment="tests", register_models=False)
# MLflow's own imports warn (pydantic, SQLAlchemy, importlib): not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store; making one takes seconds, so the tests below copy it."""
    place = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        connect(LOCAL)
    return place / "mlflow.db"


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_RUN_KEY", "first")
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path


def run_stage(name: str, **metrics: float) -> MlflowTracker:
    with open_tracker(LOCAL, name, {"train": {"epochs": 3}}) as tracker:
        tracker.log_metrics(metrics, step=2)
    assert isinstance(tracker, MlflowTracker)
    return tracker


def test_stages_of_one_pipeline_share_a_parent_and_the_next_pipeline_gets_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    train, prune = run_stage("train", loss=0.5), run_stage("prune")
    monkeypatch.setenv("PIPELINE_RUN_KEY", "second")
    later = run_stage("prune")
    assert train.parent_run_id == prune.parent_run_id != later.parent_run_id
    run = train.client.get_run(train.run_id)
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.params == {"train.epochs": "3"}
    assert run.data.tags["mlflow.parentRunId"] == train.parent_run_id
    assert run.info.status == "FINISHED"
    history = train.client.get_metric_history(train.run_id, "loss")
    assert [point.step for point in history] == [2]


def test_a_failing_stage_fails_its_run_and_the_parent(root: Path):
    with pytest.raises(RuntimeError), open_tracker(LOCAL, "train", {}) as tracker:
        raise RuntimeError
    assert isinstance(tracker, MlflowTracker)
    runs = [tracker.client.get_run(str(i)) for i in tracker.ids().values()]
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]


def test_the_parent_is_completed_with_everything_and_says_what_was_reused(root: Path):
    earlier = run_stage("train")
    (root / "figure.png").write_bytes(b"picture")
    with open_tracker(LOCAL, "report", {}) as tracker:
        runs = {
            "train": {"run_id": earlier.run_id, "parent_run_id": earlier.parent_run_id},
            "evaluate@train": {"run_id": "old", "parent_run_id": "other"},
        }
        tracker.complete_parent(
            params={"model": {"width": 16}},
            metrics={"evaluate/export/ap50": 0.9},
            files=[root / "figure.png"],
            runs=runs,
        )
    assert isinstance(tracker, MlflowTracker)
    parent = tracker.client.get_run(str(tracker.parent_run_id))
    assert parent.data.params["model.width"] == "16"
    assert parent.data.metrics == {"evaluate/export/ap50": 0.9}
    assert parent.data.tags["stage.train.reused"] == "false"
    assert parent.data.tags["stage.evaluate-train.reused"] == "true"
    assert [a.path for a in tracker.client.list_artifacts(parent.info.run_id)] == ["figure.png"]


def test_runs_of_a_dead_pipeline_are_marked_killed_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    client = connect(LOCAL)
    key = f"{socket.gethostname()}:{2**22 - 1}:0"
    dead = client.create_run(experiment_id(client, LOCAL), tags={KEY_TAG: key})
    run_stage("train")
    assert client.get_run(dead.info.run_id).info.status == "KILLED"


def test_the_store_is_the_main_repositorys_also_inside_a_temporary_experiment(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    temporary = root / ".dvc/tmp/exps/tmpabc"
    temporary.mkdir(parents=True)
    monkeypatch.chdir(temporary)
    assert main_root() == root.resolve()
    assert store_uri(LOCAL) == f"sqlite:///{root.resolve()}/mlflow.db"


def test_four_processes_at_once_make_one_whole_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without the lock, mlflow 3.17 leaves a SQLite store broken for good."""
    code = (
        "from stages._schema import TrackingConfig as C;"
        "from stages._tracking import open_tracker as o;"
        "from contextlib import ExitStack as E;"
        "c = C(experiment='tests', register_models=False);"
        "s = E(); s.enter_context(o(c, 'x', {})); s.close()"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    project = Path(__file__).parents[2]
    environment = {
        "PYTHONPATH": str(project),
        "PIPELINE_RUN_KEY": "shared",
        "PATH": "/usr/bin:/bin",
    }
    started = [subprocess.Popen(command, cwd=tmp_path, env=environment) for _ in range(4)]
    assert [process.wait(timeout=200) for process in started] == [0] * 4
    monkeypatch.chdir(tmp_path)
    client = connect(LOCAL)
    runs = client.search_runs([experiment_id(client, LOCAL)])
    assert sum("mlflow.parentRunId" in run.data.tags for run in runs) == 4


def test_tracking_off_imports_no_mlflow():
    code = (
        "import sys; from stages._schema import TrackingConfig as C;"
        "from stages._tracking import open_tracker as o\n"
        "with o(C(mode='off'), 'train', {}) as t: print(t.ids(), 'mlflow' in sys.modules)"
    )
    project = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("} ")[1].strip() == "False"


def test_without_mlflow_the_error_names_it_and_the_way_without(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with (
        pytest.raises(TrackingError, match="needs mlflow.*tracking: off in params.yaml"),
        open_tracker(LOCAL, "train", {}),
    ):
        pass


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_helper_processes_of_a_distributed_training_record_nothing(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, "1")
    with open_tracker(LOCAL, "train", {}) as tracker:
        assert tracker.ids()["run_id"] is None


def test_the_null_tracker_takes_every_call(tmp_path: Path):
    tracker = Tracker()
    tracker.log_metrics({"a": 1.0})
    tracker.log_figure(tmp_path)
    assert tracker.ids() == {"run_id": None, "parent_run_id": None}
