"""NVIDIA's launcher in an environment of its own, made when it is first needed.

Its pins (docker 4.3.1, requests 2.31.0, urllib3 below 2) fight with DVC's and MLflow's, and those
of the older launchers no longer run together, so the package is installed without its
requirements, and with pins that work for all of them (generations.LAUNCHER_PINS).
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from stages.tao.errors import TaoError
from stages.tao.generations import LAUNCHER_PINS, Generation

LOGGER = logging.getLogger(__name__)
PLACE = Path(".work/tao")
STAMP = ".installed"
INSTALL_TIMEOUT_S = 600
# One of the launcher's two clients asks /var/run/docker.sock, whatever DOCKER_HOST says, so that a
# rootless docker is not found (nvidia-tao up to 6.26.3, docker_handler.py DEFAULT_DOCKER_PATH).
REDIRECT = "docker_host_redirect"
REDIRECT_CODE = '''"""Reach docker at the socket of DOCKER_HOST, not at the usual one."""

import os
import socket

USUAL = "/var/run/docker.sock"
WANTED = os.environ.get("DOCKER_HOST", "")


class Socket(socket.socket):
    """A socket that connects to WANTED in place of USUAL, which docker 4 writes /var//run/..."""

    def connect(self, address):
        is_usual = isinstance(address, str) and os.path.normpath(address) == USUAL
        return super().connect(WANTED[len("unix://"):] if is_usual else address)


if WANTED.startswith("unix://"):
    socket.socket = Socket
'''


def environment_place(generation: Generation, root: Path = PLACE) -> Path:
    """Return the folder of the launcher's environment: one per version and Python."""
    version = ".".join(str(part) for part in sys.version_info[:2])
    return root / f"{generation.launcher.replace('==', '-')}-py{version}"


def launcher_script(generation: Generation, root: Path = PLACE) -> Path:
    """Return the place of the launcher's program, whether it is there or not."""
    return environment_place(generation, root) / "bin" / generation.command[0]


def is_installed(generation: Generation, root: Path = PLACE) -> bool:
    """Whether the environment is there and whole."""
    place = environment_place(generation, root)
    return (place / STAMP).is_file() and launcher_script(generation, root).is_file()


def ensure_launcher(generation: Generation, root: Path = PLACE) -> Path:
    """Return the launcher's program, after making its environment where that is missing.

    Raises TaoError when Python or the package index does not let it.
    """
    script = launcher_script(generation, root)
    if is_installed(generation, root):
        return script
    place = environment_place(generation, root)
    LOGGER.info("tao: installing %s in %s", generation.launcher, place)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(place)], generation)
    install = [str(place / "bin/python"), "-m", "pip", "install", "--quiet"]
    install.append("--disable-pip-version-check")
    _run([*install, *LAUNCHER_PINS], generation)
    _run([*install, "--no-deps", generation.launcher], generation)
    _write_redirect(place)
    (place / STAMP).write_text(f"{generation.launcher}\n")
    return script


def _write_redirect(place: Path) -> None:
    (packages,) = (place / "lib").glob("python3*/site-packages")
    (packages / f"{REDIRECT}.py").write_text(REDIRECT_CODE)
    # A line of a .pth file that begins with `import` is run when Python starts.
    (packages / f"{REDIRECT}.pth").write_text(f"import {REDIRECT}\n")


def _run(command: list[str], generation: Generation) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command,
            env=variables,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        lines = (done.stderr or done.stdout).strip().splitlines()
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed, lines = True, [f"no end after {INSTALL_TIMEOUT_S} s"]
    if failed:
        raise TaoError(
            f"{generation.launcher} could not be installed: {(lines or ['no reason'])[-1]}; "
            "check the package index, or do without the launcher: set backend.tao.via to docker"
        )
