"""What goes wrong inside docker: one line with the remedy, exit status 1, and a rerun goes on."""

import json
from pathlib import Path

import pytest

from tests.stages.tao.conftest import Machine
from tests.stages.tao.project import run, sections, write_project
from tests.stages.tao.standin import state


@pytest.fixture
def root(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def fail_once(root: Path, capfd: pytest.CaptureFixture[str], resolved: dict) -> str:
    """Run train, which must fail with one line; returns that."""
    capfd.readouterr()
    assert run("train", root, resolved) == 1
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert not (root / "models/train").exists()
    return line


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("disk_full", ("the disk is full", "make room")),
        ("wrong_key", ("TAO_KEY is not the key", "export TAO_KEY")),
        ("out_of_memory", ("the GPU's memory is too small", "lower train.batch_size")),
        ("invalid_spec", ("Training was interrupted", "run again, it resumes")),
        ("crash", ("Input 0 is incompatible", "logs/train.log")),
        ("killed", ("in the middle, in epoch 2", "run again, it resumes")),
        ("interrupted", ("Training was interrupted", "run again, it resumes")),
    ],
)
def test_a_fault_of_training_is_one_line_and_a_rerun_goes_on(
    fault: str,
    words: tuple[str, ...],
    root: Path,
    machine: Machine,
    capfd: pytest.CaptureFixture[str],
) -> None:
    resolved = sections(checkpoint_interval_epochs=1)
    machine.break_next("train", fault)
    line = fail_once(root, capfd, resolved)
    assert all(word in line for word in words), line
    converted = [task for task in machine.tasks() if task[0] == "dataset_convert"]
    assert run("train", root, resolved) == 0
    # What was done before the fault is not done again.
    again = [task for task in machine.tasks() if task[0] == "dataset_convert"]
    assert again == converted


def test_a_killed_training_resumes_from_its_last_checkpoint(root: Path, machine: Machine) -> None:
    resolved = sections(checkpoint_interval_epochs=1)
    machine.break_next("train", "killed")
    assert run("train", root, resolved) == 1
    (log,) = root.glob(".work/train/*/logs/train.log")
    assert run("train", root, resolved) == 0
    rows = (root / "results/train/history.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2"]
    assert not log.exists()  # success removes the work folder


def test_a_success_that_an_earlier_run_noted_is_not_taken_for_this_ones(
    root: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    resolved = sections(checkpoint_interval_epochs=1)
    machine.break_next("export", "crash")
    fail_once(root, capfd, resolved)
    (done,) = root.glob(".work/train/*/done/train.json")
    done.unlink()
    machine.break_next("train", "crash")
    assert "Input 0 is incompatible" in fail_once(root, capfd, resolved)


def test_an_export_removes_the_file_that_would_stop_it(
    root: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.break_next("export", "crash")
    fail_once(root, capfd, sections())
    (work,) = root.glob(".work/train/*/models")
    (work / "detector.onnx").write_bytes(b"half a file")
    assert run("train", root, sections()) == 0


def test_a_refused_image_names_the_login(
    root: Path, machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.break_next("pull", "denied")
    assert "docker login nvcr.io" in fail_once(root, capfd, sections())
    assert run("train", root, sections()) == 0


def test_a_container_that_a_killed_run_left_is_removed(root: Path, machine: Machine) -> None:
    machine.break_next("train", "crash")
    assert run("train", root, sections()) == 1
    (work,) = root.glob(".work/train/*")
    running = {"Status": "running"}
    ours, other = (
        {"Config": {"HostConfig": {"Binds": [f"{place}:/workspace/hands:rw"]}}, "State": running}
        for place in (work, root)
    )
    state.write(machine.folder, "containers.json", {"c0ffee": ours, "beef": other})
    assert run("train", root, sections()) == 0
    left = state.read(machine.folder, "containers.json", {})
    assert left["c0ffee"]["State"] == {"Status": "exited"}
    assert left["beef"]["State"] == {"Status": "running"}
    (removed,) = [r["path"] for r in machine.requests() if r["query"] == "DELETE"]
    assert removed == "/containers/c0ffee?force=1"


def test_the_key_is_in_no_file_no_log_and_no_parameter(
    root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "S3cret-Key_of=mine"
    monkeypatch.setenv("TAO_KEY", secret)
    machine.set_generation("tao4")
    machine.break_next("evaluate", "crash")
    resolved = sections(generation="tao4")
    assert [run(name, root, resolved) for name in ("train", "evaluate@train")] == [0, 1]
    assert secret in json.dumps(machine.tasks())
    texts = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert len(texts) > 20
    assert not any(secret.encode() in text for text in texts)


@pytest.mark.parametrize(
    ("key", "words"),
    [(None, "TAO_KEY is not set"), ("two words", "characters that the launcher's shell")],
)
def test_a_missing_or_an_unsafe_key_is_named_but_not_shown(
    key: str | None,
    words: str,
    root: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    machine.set_generation("tao4")
    if key is not None:
        monkeypatch.setenv("TAO_KEY", key)
    line = fail_once(root, capfd, sections(generation="tao4"))
    assert words in line
    assert key is None or key not in line
    assert machine.tasks() == []
