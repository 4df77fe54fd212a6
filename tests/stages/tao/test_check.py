"""Preflight: each thing that can be missing, and its remedy."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.tao import check, preflight
from stages.tao.config import CHECKS, TaoConfig
from stages.tao.errors import TaoError
from stages.tao.generations import find_generation
from stages.tao.preflight import Place, find_faults, require_tao
from tests.stages.tao.conftest import Machine
from tests.stages.tao.project import run, sections, write_project
from tests.stages.tao.standin import state

NAMES = list(CHECKS)


@pytest.fixture(autouse=True)
def only_stand_ins(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's own docker and tools of NVIDIA, where it has them."""
    monkeypatch.setenv("PATH", str(machine.binaries))


def faults(**tao: object) -> dict[str, str]:
    """Remedy by name of what is missing."""
    config = TaoConfig(**{"via": "docker", **tao})  # type: ignore[arg-type]
    place = Place(config, find_generation(config.generation), Path(".work"))
    return {one.name: one.remedy for one in find_faults(place) if not one.is_good}


def test_nothing_is_missing_on_a_whole_machine(machine: Machine) -> None:
    assert faults(via="launcher") == {}
    place = Place(TaoConfig(), find_generation("tao5"), Path(".work"))
    assert [finding.name for finding in find_faults(place)] == NAMES


def test_without_docker(machine: Machine) -> None:
    (machine.binaries / "docker").unlink()
    assert "install docker-ce" in faults()["docker"]


def test_with_the_daemon_down(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{machine.home}/nothing.sock")
    found = faults()
    assert found["daemon"] == "start it: sudo systemctl start docker"
    with pytest.raises(TaoError, match=r"^daemon: .*systemctl start docker \(\d more: python -m"):
        require_tao(TaoConfig(via="docker"), work=Path(".work"))


def test_with_a_socket_that_is_not_ours(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise preflight.EngineError("Permission denied")

    monkeypatch.setattr(preflight, "get", refuse)
    assert "usermod -aG docker" in faults()["daemon"]


def test_with_a_daemon_elsewhere(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert "unset DOCKER_HOST" in faults()["daemon"]


def test_without_nvidias_runtime(machine: Machine) -> None:
    state.write(machine.folder, "info.json", {"Runtimes": {"runc": {}}})
    assert "nvidia-ctk runtime configure" in faults()["runtime"]
    devices = [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}]
    state.write(machine.folder, "info.json", {"Runtimes": {}, "DiscoveredDevices": devices})
    assert "runtime" not in faults()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo '470.82, NVIDIA T4'", "driver 535 or later"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", "driver 535 or later"),
    ],
)
def test_with_a_driver_that_does_not_do(machine: Machine, body: str, words: str) -> None:
    machine.script("nvidia-smi", body)
    assert words in faults()["driver"]


def test_older_generations_run_on_older_drivers(machine: Machine) -> None:
    machine.script("nvidia-smi", "echo '470.82, NVIDIA T4'")
    assert "driver" not in faults(generation="tao4")


def test_without_a_driver(machine: Machine) -> None:
    (machine.binaries / "nvidia-smi").unlink()
    assert "install NVIDIA's driver" in faults()["driver"]


def test_with_fewer_gpus_than_wanted(machine: Machine) -> None:
    assert faults(gpus=4) == {"driver": "set backend.tao.gpus=2"}
    assert faults(gpus=1, gpu_indices=[2]) == {"driver": "set backend.tao.gpus=2"}
    assert faults(gpus=2) == {}


def test_a_check_that_is_wrong_about_a_machine_can_be_left_out(machine: Machine) -> None:
    (machine.binaries / "nvidia-smi").unlink()
    with pytest.raises(TaoError, match=r"^driver: nvidia-smi is not there"):
        require_tao(TaoConfig(via="docker"), work=Path(".work"))
    require_tao(TaoConfig(via="docker", unchecked=["driver"]), work=Path(".work"))
    with pytest.raises(ValueError, match="known choices: docker, daemon"):
        TaoConfig(unchecked=["weather"])


def test_with_a_full_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = preflight.shutil.disk_usage("/")
    tight = usage._replace(free=10**9)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: tight)
    assert "make room" in faults()["disk"]


def test_an_image_that_has_to_be_pulled_wants_more_room(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = preflight.shutil.disk_usage("/")._replace(free=10 * 10**9)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: some)
    assert "disk" not in faults()
    (machine.folder / "images.json").unlink()
    assert "disk" in faults()


def test_without_a_login(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.home / ".docker/config.json").unlink()
    assert "docker login nvcr.io" in faults(via="launcher")["login"]
    assert "login" not in faults()  # the image is here, and docker run asks nobody
    (machine.folder / "images.json").unlink()
    assert "docker login nvcr.io" in faults()["login"]
    helpers = {"credHelpers": {"nvcr.io": "secretservice"}}
    (machine.home / ".docker/config.json").write_text(json.dumps(helpers))
    assert "login" not in faults()
    assert "login" in faults(via="launcher")
    machine.log_in("registry.example.org")
    assert "login" in faults(via="launcher")
    monkeypatch.setenv("OVERRIDE_REGISTRY", "registry.example.org")
    assert "login" not in faults(via="launcher")


def test_every_stage_checks_first_and_starts_nothing(
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    resolved = sections()
    assert run("train", tmp_path, resolved) == 0
    num_tasks = len(machine.tasks())
    machine.script("nvidia-smi", "exit 1")
    for name in ("train", "prune", "evaluate@train"):
        capfd.readouterr()
        assert run(name, tmp_path, resolved) == 1
        lines = capfd.readouterr().err.splitlines()
        assert [line for line in lines if line.startswith("error: driver: nvidia-smi fails")]
    assert len(machine.tasks()) == num_tasks
    assert (tmp_path / "models/train/model.json").is_file()


def test_the_program_says_all_of_it_within_5_seconds(machine: Machine, tmp_path: Path) -> None:
    machine.script("nvidia-smi", "exec /bin/sleep 60")
    backend = {"backend": {"tao": {"generation": "tao6", "via": "docker"}}}
    (tmp_path / "resolved.yaml").write_text(json.dumps(backend))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "stages.tao.check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert time.monotonic() - started < 8.0  # 5 and the start of Python on a busy machine
    assert done.returncode == 1
    assert [line.split(":")[0][8:] for line in done.stdout.splitlines()[:3]] == NAMES[:3]
    assert "MISSING driver: nvidia-smi does not answer\n        mend: restart" in done.stdout


def test_a_configuration_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resolved.yaml").write_text("backend: {tao: {generation: tao9}}")
    assert check.main([]) == 1
    assert "known choices: tlt3" in capsys.readouterr().err
