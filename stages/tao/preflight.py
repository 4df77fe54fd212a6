"""What the TAO backend needs of a machine, looked at before anything long begins.

Docker, its daemon, GPUs, driver, disk, login, launcher and image; each check says what it saw and
how to mend it. All of them run at once, in less than five seconds. `check.py` is the program.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from stages.tao.config import TaoConfig
from stages.tao.engine import EngineError, docker_host, get, has_image, is_local
from stages.tao.environment import is_installed
from stages.tao.errors import TaoError
from stages.tao.generations import Generation, find_generation
from stages.tao.launcher import image_name

NVIDIA_SMI_TIMEOUT_S = 4.0
IMAGE_GB, WORK_GB = 30, 5
DOCKER_CONFIG = Path("~/.docker/config.json")
GPU_TOOLS = ("nvidia-container-runtime-hook", "nvidia-container-cli", "nvidia-ctk")


class Finding(NamedTuple):
    """One check: what was looked at, what was seen, and the remedy; none is needed if is_good."""

    name: str
    is_good: bool
    seen: str
    remedy: str = ""


class Place(NamedTuple):
    """What is checked for."""

    config: TaoConfig
    generation: Generation
    work: Path

    @property
    def image(self) -> str:
        """The image with its registry."""
        return image_name(self.config, self.generation)


def require_tao(config: TaoConfig, *, work: Path) -> None:
    """Raise TaoError with the first thing that is missing, and how many more there are."""
    findings = find_faults(Place(config, find_generation(config.generation), work))
    faults = [one for one in findings if not one.is_good and one.name not in config.unchecked]
    if faults:
        first = faults[0]
        more = f" ({len(faults) - 1} more: python -m stages.tao.check)" if faults[1:] else ""
        raise TaoError(f"{first.name}: {first.seen}; {first.remedy}{more}")


def find_faults(place: Place) -> list[Finding]:
    """Run all checks at once and return them in the order in which they are mended."""
    with ThreadPoolExecutor(len(ALL)) as pool:
        return list(pool.map(lambda check: check(place), ALL))


def check_client(place: Place) -> Finding:
    """Look for the docker program, which the launcher calls too."""
    found = shutil.which("docker")
    return Finding("docker", bool(found), found or "not on PATH", _install("docker-ce"))


def check_daemon(place: Place) -> Finding:
    """Ask the daemon for its version."""
    name, host = "daemon", docker_host()
    if not is_local(host):
        return Finding(
            name,
            False,
            f"DOCKER_HOST is {host}, a daemon that cannot see this machine's folders",
            "run on its machine, or unset DOCKER_HOST",
        )
    try:
        version = get("/version").get("Version", "of no version")
    except EngineError as error:
        remedy = "start it: sudo systemctl start docker"
        if "ermission" in str(error):
            remedy = "sudo usermod -aG docker $USER, and log in anew"
        return Finding(name, False, f"{host} does not answer ({error})", remedy)
    return Finding(name, True, f"docker {version}")


def check_gpu_runtime(place: Place) -> Finding:
    """Look for what gives containers a GPU."""
    name = "runtime"
    tools = [tool for tool in GPU_TOOLS if shutil.which(tool)]
    try:
        info = get("/info")
        runtimes = sorted(info.get("Runtimes") or {})
        devices = [str(entry.get("ID")) for entry in info.get("DiscoveredDevices") or []]
    except EngineError as error:
        return Finding(name, True, f"not known, the daemon does not say ({error})")
    known = [f"runtime {runtime}" for runtime in runtimes if runtime == "nvidia"]
    known += [device for device in devices if "nvidia" in device] + tools
    if known:
        return Finding(name, True, known[0])
    return Finding(
        name,
        False,
        f"docker knows no runtime of NVIDIA ({', '.join(runtimes) or 'none'})",
        f"{_install('nvidia-container-toolkit')}, then sudo nvidia-ctk runtime configure "
        "--runtime=docker && sudo systemctl restart docker",
    )


def check_driver(place: Place) -> Finding:
    """Ask nvidia-smi for the driver's version and count the GPUs."""
    name, wanted = "driver", place.generation.driver
    query = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    remedy = f"install NVIDIA's driver {wanted} or later, and restart"
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return Finding(name, False, "nvidia-smi is not there", remedy)
    except subprocess.TimeoutExpired:
        return Finding(name, False, "nvidia-smi does not answer", "restart the machine")
    rows = [line.split(",") for line in done.stdout.splitlines() if "," in line]
    if done.returncode != 0 or not rows:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return Finding(
            name, False, f"nvidia-smi fails: {lines[-1] if lines else 'no GPU'}", remedy
        )
    version = rows[0][0].strip()
    major = version.partition(".")[0]
    if not major.isdecimal() or int(major) < wanted:
        return Finding(name, False, f"{version} is older than {wanted}", remedy)
    needed = max([place.config.gpus - 1, *place.config.gpu_indices]) + 1
    if len(rows) < needed:
        return Finding(
            name,
            False,
            f"{len(rows)} GPU, backend.tao.gpus and gpu_indices want {needed}",
            f"set backend.tao.gpus={len(rows)}",
        )
    return Finding(name, True, f"{version}, {len(rows)} GPU ({rows[0][1].strip()})")


def check_disk(place: Place) -> Finding:
    """Look for room: for the stage's work, and for the image while that is not there yet."""
    name = "disk"
    needed: dict[Path, int] = {_existing(place.work): WORK_GB}
    try:
        if not has_image(place.image):
            root = Path(get("/info").get("DockerRootDir") or "/var/lib/docker")
            needed[_existing(root)] = IMAGE_GB
    except EngineError:
        pass  # the daemon's own check says so
    for folder, gigabytes in needed.items():
        free = shutil.disk_usage(folder).free / 1e9
        if free < gigabytes:
            return Finding(
                name,
                False,
                f"{free:.1f} GB free at {folder}, {gigabytes} are needed",
                "make room there; docker system df says what images take",
            )
    return Finding(name, True, "room enough")


def check_login(place: Place) -> Finding:
    """Look for a login of the registry: the launcher wants it always, docker to pull the image."""
    name, registry = "login", place.image.partition("/")[0]
    if place.config.via == "launcher" and os.environ.get("OVERRIDE_REGISTRY"):
        return Finding(name, True, "not asked for, OVERRIDE_REGISTRY is set")
    path = DOCKER_CONFIG.expanduser()
    try:
        known = json.loads(path.read_text())
        # The launcher knows nothing of helpers that keep a login elsewhere.
        helpers = known.get("credHelpers", {}) if place.config.via == "docker" else {}
        entries = {*known.get("auths", {}), *helpers}
        seen = f"{path} has no entry for {registry}"
    except (OSError, ValueError, AttributeError) as error:
        entries, seen = set(), f"{path} cannot be read ({type(error).__name__})"
    if any(registry in entry for entry in entries):
        return Finding(name, True, f"{registry} in {path}")
    try:
        if place.config.via == "docker" and has_image(place.image):
            return Finding(name, True, "not needed, the image is here")
    except EngineError:
        pass
    return Finding(
        name,
        False,
        seen,
        f"docker login {registry} (user $oauthtoken, password: an API key of ngc.nvidia.com)",
    )


def check_launcher(place: Place) -> Finding:
    """Look for the launcher's environment; a missing one is made when it is needed."""
    name, requirement = "launcher", place.generation.launcher
    if place.config.via == "docker":
        return Finding(name, True, "not used, backend.tao.via is docker")
    if is_installed(place.generation):
        return Finding(name, True, requirement)
    try:
        import ensurepip  # noqa: F401  # Debian has it in a package of its own
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return Finding(
            name, False, "Python cannot make environments", _install(f"python{version}-venv")
        )
    return Finding(name, True, f"{requirement} will be installed when it is first needed")


def check_image(place: Place) -> Finding:
    """Look for the image; a missing one is pulled when it is needed."""
    try:
        here = has_image(place.image)
    except EngineError:
        return Finding(
            "image", False, f"{place.image}: the daemon does not say", "start the daemon"
        )
    return Finding("image", True, f"{place.image}{'' if here else ' will be pulled'}")


ALL: tuple[Callable[[Place], Finding], ...] = (
    check_client,
    check_daemon,
    check_gpu_runtime,
    check_driver,
    check_disk,
    check_login,
    check_launcher,
    check_image,
)


def _install(package: str) -> str:
    return f"install {package} (sudo apt-get install {package})"


def _existing(path: Path) -> Path:
    """Return the path or its nearest parent that is there."""
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
