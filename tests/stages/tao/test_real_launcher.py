"""NVIDIA's launchers from PyPI drive every command of every stage against the stand-in docker.

Needs the package index once: the environments are made in a folder that lasts for the session.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tao.environment import PLACE, ensure_launcher
from stages.tao.errors import TaoError
from stages.tao.generations import find_generation
from tests.stages.tao.conftest import IMAGES, Machine
from tests.stages.tao.project import run, sections, write_project

CHAIN = ("train", "prune", "retrain", "evaluate@train", "evaluate@retrain", "export")
WORK = "/workspace/hands"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="session")
def environments() -> Iterator[Path]:
    """A folder for the launchers' environments, with this user's own settings of pip."""
    with tempfile.TemporaryDirectory(prefix="launchers") as place:
        yield Path(place)


@pytest.fixture
def root(
    tmp_path: Path, environments: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / PLACE).parent.mkdir()
    (tmp_path / PLACE).symlink_to(environments)
    return write_project(tmp_path)


def install(generation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the launcher's environment; skips where the package index is out of reach."""
    with monkeypatch.context() as own:
        own.setenv("HOME", os.path.expanduser(f"~{os.environ.get('USER', 'root')}"))
        own.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        try:
            ensure_launcher(find_generation(generation))
        except TaoError as error:
            pytest.skip(str(error))


def test_tao_5_runs_from_data_to_onnx(
    root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tao5", monkeypatch)
    resolved = sections(via="launcher", gpus=2)
    assert [run(name, root, resolved) for name in CHAIN] == [0] * len(CHAIN)
    assert (root / "models/export/detector.onnx").is_file()
    assert all(call[:2] == ["exec", "-i"] for call in machine.commands())
    train = next(task for task in machine.tasks() if task[0] == "train")
    assert " ".join(train) == (
        f"train -e {WORK}/specs/train.txt -r {WORK}/results/train -n detector --gpus 2"
    )


def test_tao_4_gets_its_terminal_and_its_key(
    root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tao4", monkeypatch)
    machine.set_generation("tao4")
    monkeypatch.setenv("TAO_KEY", "tlt_encode")
    resolved = sections(generation="tao4", via="launcher")
    assert [run(name, root, resolved) for name in CHAIN] == [0] * len(CHAIN)
    assert (root / "models/export/detector.etlt").is_file()
    assert all(call[:2] == ["exec", "-it"] for call in machine.commands())
    prune = next(task for task in machine.tasks() if task[0] == "prune")
    models = f"{WORK}/models"
    assert " ".join(prune) == (
        f"prune -m {models}/model.tlt -o {models}/pruned.tlt -k tlt_encode -eq union "
        "-pth 0.0000052 -n max -pg 8 -nf 16"
    )


@pytest.mark.parametrize("generation", ["tlt3", "tao3"])
def test_older_launchers_train(
    generation: str, root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(generation, monkeypatch)
    machine.set_generation(generation)
    monkeypatch.setenv("TAO_KEY", "tlt_encode")
    assert run("train", root, sections(generation=generation, via="launcher")) == 0
    assert (root / "models/train/detector.tlt").is_file()
    created = [r["body"] for r in machine.requests() if r["path"] == "/containers/create"]
    assert {body["Image"] for body in created} == {IMAGES[generation]}


def test_the_container_gets_its_mount_user_and_variables(
    root: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tao6", monkeypatch)
    machine.set_generation("tao6")
    assert run("train", root, sections(generation="tao6", via="launcher")) == 0
    created = [r["body"] for r in machine.requests() if r["path"] == "/containers/create"]
    assert {body["Image"] for body in created} == {IMAGES["tao6"]}
    assert {body["User"] for body in created} == {f"{os.getuid()}:{os.getgid()}"}
    assert all({"TELEMETRY_OPT_OUT=1", "HOME=/tmp"} <= set(body["Env"]) for body in created)
    assert not any(body["Tty"] for body in created)
    (binds,) = {tuple(body["HostConfig"]["Binds"]) for body in created}
    (bind,) = binds
    assert bind.startswith(f"{root.resolve()}/.work/train/")
    assert bind.endswith(f":{WORK}:rw")
    assert created[0]["HostConfig"]["DeviceRequests"][0]["Count"] == -1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("crash", "Input 0 is incompatible"),
        ("killed", "in the middle, in epoch 2"),
    ],
)
def test_a_launcher_that_exits_0_after_a_failure_is_not_believed(
    fault: str,
    words: str,
    root: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    install("tao5", monkeypatch)
    machine.break_next("train", fault)
    resolved = sections(via="launcher", checkpoint_interval_epochs=1)
    assert run("train", root, resolved) == 1
    printed = capfd.readouterr().err
    (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert words in line
    assert not (root / "models/train").exists()
    assert run("train", root, resolved) == 0
    log = next((root / "models").glob("train/model.json"))
    assert json.loads(log.read_text())["versions"] == {"tao": "tao5"}


def test_an_image_that_is_missing_is_pulled_and_a_refusal_names_the_login(
    root: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    install("tao5", monkeypatch)
    (machine.folder / "images.json").unlink()
    machine.break_next("pull", "denied")
    assert run("train", root, sections(via="launcher")) == 1
    assert "docker login nvcr.io" in capfd.readouterr().err
    assert run("train", root, sections(via="launcher")) == 0
    pulls = [r["query"] for r in machine.requests() if r["path"] == "/images/create"]
    assert "tag=5.0.0-tf1.15.5" in pulls[-1]
