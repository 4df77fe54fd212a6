"""How a sub-task is started: mounts file, docker's command, terminal, output, and its end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.tao import launcher
from stages.tao.config import TaoConfig
from stages.tao.environment import REDIRECT_CODE
from stages.tao.errors import TaoError
from stages.tao.generations import find_generation
from tests.stages.tao.conftest import Machine
from tests.stages.tao.standin import state

DOCKER = TaoConfig(via="docker")


def test_the_mounts_file_has_only_keys_that_launchers_take(tmp_path: Path) -> None:
    for name, has_tty in (("tao4", False), ("tao5", True)):
        launcher.write_mounts(tmp_path / "mounts.json", find_generation(name), work=tmp_path)
        content = json.loads((tmp_path / "mounts.json").read_text())
        assert set(content) == {"Mounts", "Envs", "DockerOptions"}
        assert content["Mounts"] == [{"source": str(tmp_path), "destination": "/workspace/hands"}]
        assert {"variable": "TELEMETRY_OPT_OUT", "value": "1"} in content["Envs"]
        assert content["DockerOptions"].get("tty", True) is not has_tty
        assert content["DockerOptions"]["user"] == f"{os.getuid()}:{os.getgid()}"


def test_docker_run_mounts_one_folder_and_names_the_image() -> None:
    row = find_generation("tao5")
    command = launcher.docker_command(["train", "-e", "s"], DOCKER, row, work=Path("/w"))
    assert command[:6] == ["docker", "run", "--rm", "--init", "--gpus", "all"]
    assert command[command.index("--volume") + 1] == "/w:/workspace/hands"
    image = "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"
    assert command[-5:] == [image, "detectnet_v2", "train", "-e", "s"]
    assert "-t" not in command
    own = TaoConfig(via="docker", image="registry.example.org/tao:mine")
    assert launcher.image_name(own, row) == "registry.example.org/tao:mine"


def test_in_a_rootless_docker_root_is_the_user(machine: Machine, tmp_path: Path) -> None:
    row = find_generation("tao5")

    def user() -> str:
        command = launcher.docker_command(["train"], DOCKER, row, work=tmp_path)
        return command[command.index("--user") + 1]

    assert user() == f"{os.getuid()}:{os.getgid()}"
    state.write(machine.folder, "info.json", {"SecurityOptions": ["name=rootless"]})
    assert user() == "0:0"


def test_another_registry_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERRIDE_REGISTRY", "registry.example.org")
    name = launcher.image_name(DOCKER, find_generation("tlt3"))
    assert name == "registry.example.org/nvidia/tlt-streamanalytics:v3.0-py3"


def test_an_image_of_ones_own_needs_docker() -> None:
    with pytest.raises(ValueError, match="set backend.tao.via to docker"):
        TaoConfig(via="launcher", image="mine")


def test_output_is_logged_without_the_key(machine: Machine, tmp_path: Path) -> None:
    machine.script("docker", r"printf 'key=hush\nstep 1\rstep 2\n'; exit 3")
    with launcher.start(
        ["train", "-k", "hush"],
        DOCKER,
        find_generation("tao4"),
        work=tmp_path,
        log=tmp_path / "logs/train.log",
        secret="hush",
    ) as task:
        while task.is_running():
            time.sleep(0.01)
    assert list(task.lines) == ["key=<key>", "step 2"]
    assert task.exit_status == 3
    assert "hush" not in (tmp_path / "logs/train.log").read_text()


def test_variables_that_change_the_launcher_do_not_reach_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI_PROJECT_DIR", "TAO_DOCKER_DISABLE", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    machine.script("docker", "env")
    with launcher.start(
        ["train"], DOCKER, find_generation("tao5"), work=tmp_path, log=tmp_path / "l", secret=None
    ) as task:
        while task.is_running():
            time.sleep(0.01)
    names = {line.partition("=")[0] for line in task.lines}
    assert "LAUNCHER_MOUNTS" in names
    assert names.isdisjoint({"CI_PROJECT_DIR", "TAO_DOCKER_DISABLE", "PYTHONPATH"})


def test_leaving_early_interrupts_the_task(machine: Machine, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    machine.script("docker", f"trap 'echo stopped > {mark}; exit' INT; sleep 60 & wait")
    started = time.monotonic()
    with launcher.start(
        ["train"], DOCKER, find_generation("tao5"), work=tmp_path, log=tmp_path / "l", secret=None
    ) as task:
        time.sleep(0.5)
    assert not task.is_running()
    assert mark.read_text() == "stopped\n"
    assert time.monotonic() - started < 20.0


def test_a_path_that_docker_would_cut_is_refused(machine: Machine, tmp_path: Path) -> None:
    work = tmp_path / "a:b"
    work.mkdir()
    with (
        pytest.raises(TaoError, match="has a colon"),
        launcher.start(
            ["train"], DOCKER, find_generation("tao5"), work=work, log=tmp_path / "l", secret=None
        ),
    ):
        pass


def test_a_program_that_is_missing_points_at_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(TaoError, match="python -m stages.tao.check"),
        launcher.start(
            ["train"],
            DOCKER,
            find_generation("tao5"),
            work=tmp_path,
            log=tmp_path / "l",
            secret=None,
        ),
    ):
        pass


def test_the_launchers_fixed_socket_follows_docker_host(machine: Machine, tmp_path: Path) -> None:
    """Its second client connects to /var//run/docker.sock, whatever DOCKER_HOST says."""
    (tmp_path / "redirect.py").write_text(REDIRECT_CODE)
    program = (
        "import redirect, socket; s = socket.socket(socket.AF_UNIX); "
        "s.connect('/var//run/docker.sock'); s.sendall(b'GET /version HTTP/1.0\\r\\n\\r\\n'); "
        "print(s.recv(20))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "HTTP/1.1 200" in done.stdout, done.stderr
