"""The whole pipeline through real DVC and MLflow, on the smoke experiment, in a copy of the
repository.

One test per promise: everything runs from nothing, a second run does nothing, an edit reruns only
what follows, experiments and queues work, and a run killed in any stage ends in the same bytes.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TIMEOUT_S = 230
# What holds run ids, times or speeds by design; everything else is equal for equal inputs.
VARYING = ("results/runs/", "_speed.json", "results/engines", "results/report", "dist/")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # MLflow's own imports warn (pydantic, SQLAlchemy, importlib): not ours to mend.
    pytest.mark.filterwarnings("ignore::Warning"),
]


def environment(**extra: str) -> dict[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "PIPELINE_", "PYTEST"))
    }
    user = {
        f"GIT_{who}_{what}": "tests@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    paths = {"PATH": f"{BIN}:{kept['PATH']}", "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    return {**kept, **user, **paths, **extra}


def call(project: Path, *command: str, status: int = 0) -> str:
    """Run a command in the project; return what it printed; fail when the status differs."""
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == status, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def fresh_copy(place: Path, **params: str) -> Path:
    """Copy what git would track into a repository of its own, with choices in params.yaml."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    chosen = yaml.safe_load((place / "params.yaml").read_text())
    (place / "params.yaml").write_text(yaml.safe_dump({**chosen, **params}))
    call(place, "git", "init", "-q")
    call(place, "git", "add", "-A")
    call(place, "git", "commit", "-q", "-m", "Start")
    return place


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the smoke experiment ran once, from nothing."""
    place = fresh_copy(tmp_path_factory.mktemp("pipeline"), experiment="smoke")
    call(place, "dvc", "repro")
    call(place, "git", "add", "-A")
    call(place, "git", "commit", "-q", "-m", "Run")
    return place


@pytest.fixture
def restored(project: Path) -> Iterator[Path]:
    """The project, put back to the committed run after the test."""
    yield project
    call(project, "git", "reset", "-q", "--hard")
    call(project, "dvc", "checkout", "-q", "--force")


def outputs(project: Path) -> dict[str, str]:
    """Path -> hash of every output in dvc.lock that must be equal for equal inputs."""
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    outs = [out for stage in lock.values() for out in stage.get("outs", [])]
    return {o["path"]: o["md5"] for o in outs if not any(word in o["path"] for word in VARYING)}


def stage_names() -> list[str]:
    """All stages in the order of dvc.yaml, with their steps, as DVC prints them."""
    names = []
    for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        names += [f"{name}@{item}" for item in entry["foreach"]] if "foreach" in entry else [name]
    return names


def test_every_output_is_there_after_one_command(project: Path):
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert sorted(lock) == sorted(stage_names())
    places = [project / out["path"] for stage in lock.values() for out in stage["outs"]]
    assert [place for place in places if not place.exists()] == []


def test_the_report_shows_the_demo_clip_and_a_table_of_the_steps(project: Path):
    text = (project / "results/report.md").read_text()
    assert all(f"| {step} |" in text for step in ("train", "prune", "retrain", "export"))
    assert "![sensitivity](prune/sensitivity.png)" in text
    assert (project / "results/report/demo.mp4").stat().st_size > 1000


def test_a_second_repro_runs_nothing(project: Path):
    assert "Running stage" not in call(project, "dvc", "repro")


def test_metrics_and_plots_show(project: Path, tmp_path: Path):
    metrics = json.loads(call(project, "dvc", "metrics", "show", "--json"))
    found = metrics[""]["data"]["results/evaluate/export.json"]["data"]
    assert {"ap", "ap50", "ap75", "ap_tao", "num_images", "num_boxes"} <= set(found)
    whole = json.loads((project / "results/evaluate/export.json").read_text())
    assert sum(row["num_boxes"] for row in whole["per_video"]) == found["num_boxes"]
    call(project, "dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    assert "precision-recall" in (tmp_path / "plots/index.html").read_text()


def test_mlflow_holds_one_complete_parent_with_a_nested_run_per_stage(project: Path):
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("hand-gestures")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    nested = {run.data.tags["dvc.stage"] for run in runs if run not in parents}
    assert nested == set(stage_names()) - {"compose"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "evaluate/export/ap50" in parents[0].data.metrics
    assert parents[0].data.params["train.epochs"] == "2"
    files = {item.path for item in client.list_artifacts(parents[0].info.run_id)}
    wanted = {"report.md", "demo.mp4", "export_pr.png", "confusion.png", "sensitivity.png"}
    assert wanted <= files
    champion = client.get_model_version_by_alias("egohands-detector", "champion")
    assert int(champion.version) == 1


def test_an_edit_in_conf_retrain_reruns_retrain_and_nothing_before_it(restored: Path):
    edited = restored / "conf/retrain/default.yaml"
    edited.write_text(edited.read_text() + "\n# an edit\n")
    call(restored, "dvc", "repro", "compose")
    assert json.loads(call(restored, "dvc", "status", "--json")) == {}
    smoke = restored / "conf/experiment/smoke.yaml"
    smoke.write_text(
        smoke.read_text().replace("float_fit:\n    epochs: 1", "float_fit:\n    epochs: 2")
    )
    call(restored, "dvc", "repro", "compose")
    changed = set(json.loads(call(restored, "dvc", "status", "--json")))
    assert changed == {"retrain", "report"}, "report shows all parameters"


def test_an_experiment_changes_groups_and_values(restored: Path):
    change = ["-S", "model=resnet10", "-S", "+overrides.train.epochs=3"]
    call(restored, "dvc", "exp", "run", *change, "compose")
    resolved = yaml.safe_load((restored / "resolved.yaml").read_text())
    assert (resolved["model"]["width"], resolved["train"]["epochs"]) == (64, 3)


def test_a_queued_grid_runs_each_combination(restored: Path):
    grid = ["-S", "model=tiny,resnet10", "-S", "+overrides.train.epochs=3,4"]
    call(restored, "dvc", "exp", "run", "--queue", *grid, "compose")
    call(restored, "dvc", "exp", "run", "--run-all", "-j", "2")
    shown = json.loads(call(restored, "dvc", "exp", "show", "--json"))
    done = [e for rev in shown for e in rev.get("experiments") or []]
    sections = [e["revs"][0]["data"]["params"]["resolved.yaml"]["data"] for e in done]
    combinations = {(s["model"]["width"], s["train"]["epochs"]) for s in sections}
    assert combinations == {(16, 3), (16, 4), (64, 3), (64, 4)}


def test_a_stage_by_hand_writes_below_out_and_leaves_dvcs_outputs(project: Path, tmp_path: Path):
    before = call(project, "dvc", "status", "--json")
    command = [sys.executable, "-m", "stages.split", "split.val_frac=0.3", "tracking.mode=off"]
    call(project, *command, "--out", str(tmp_path))
    assert (tmp_path / "data/split/train.txt").is_file()
    assert call(project, "dvc", "status", "--json") == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["split.val_frac=0.3"], 2, "--out DIR"),
        (["model=resnet18", "--out", "x"], 2, "dvc exp run -S model=resnet18"),
        (["split.nothing=1", "--out", "x"], 1, "split.nothing"),
    ],
)
def test_a_wrong_call_by_hand_says_what_to_do(
    project: Path, arguments: list[str], status: int, words: str
):
    printed = call(project, sys.executable, "-m", "stages.split", *arguments, status=status)
    assert words in printed
    assert "Traceback" not in printed


def test_an_unknown_key_fails_the_pipeline_in_one_line_and_keeps_earlier_results(restored: Path):
    before = hashlib.sha256((restored / "models/export/detector.onnx").read_bytes()).hexdigest()
    params = restored / "params.yaml"
    params.write_text(
        params.read_text().replace("overrides: {}", "overrides: {train: {epoch: 1}}")
    )
    printed = call(restored, "dvc", "repro", status=255)
    assert [line for line in printed.splitlines() if line.startswith("error: train.epoch")]
    assert (
        hashlib.sha256((restored / "models/export/detector.onnx").read_bytes()).hexdigest()
        == before
    )


def repro_killed_in(project: Path, stage: str, delay_s: float, *options: str) -> bool:
    """Start `dvc repro`, kill -9 its whole process group inside a stage; False when it ended
    first."""
    log = project / ".work" / "kill.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["dvc", "repro", *options],
            cwd=project,
            env=environment(),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        deadline = time.monotonic() + TIMEOUT_S
        while f"Running stage '{stage}'" not in log.read_text() and process.poll() is None:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        time.sleep(delay_s)
        was_running = process.poll() is None
        if was_running:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    return was_running


@pytest.mark.parametrize(
    ("stage", "delay_s"), [("download", 2.0), ("train", 5.0), ("retrain", 6.0)]
)
def test_a_long_stage_killed_half_way_ends_in_the_same_bytes(
    restored: Path, stage: str, delay_s: float
):
    """Forced, since DVC would take the outputs from its cache; all stages: `make test-kill`."""
    expected = outputs(restored)
    assert repro_killed_in(restored, stage, delay_s, "--force", "--single-item", stage)
    call(restored, "dvc", "repro", "--force", "--single-item", stage)
    assert outputs(restored) == expected
    assert not (restored / ".work" / stage).exists()


@pytest.mark.kill
def test_killed_in_every_stage_the_pipeline_ends_in_the_same_bytes(
    project: Path, tmp_path_factory: pytest.TempPathFactory
):
    place = fresh_copy(tmp_path_factory.mktemp("killed"), experiment="smoke")
    delays = {"download": 2.0, "train": 5.0, "retrain": 7.0, "gesture": 5.0}
    killed = [
        stage for stage in stage_names() if repro_killed_in(place, stage, delays.get(stage, 1.0))
    ]
    assert set(delays) <= set(killed)
    call(place, "dvc", "repro")
    assert outputs(place) == outputs(project)
    assert list((place / ".work").glob("*/*/*")) == []
