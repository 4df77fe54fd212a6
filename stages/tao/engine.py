"""What docker's daemon knows, asked in a second or two each.

Source: docker's Engine API (docs.docker.com/reference/api/engine), over its unix socket.
"""

import contextlib
import http.client
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

LOGGER = logging.getLogger(__name__)
USUAL_SOCKET = "/var/run/docker.sock"
TIMEOUT_S = 2.0


class EngineError(Exception):
    """The daemon does not answer; the message says how."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def docker_host() -> str:
    """Return the daemon's address as docker's client takes it from the environment."""
    return os.environ.get("DOCKER_HOST") or f"unix://{USUAL_SOCKET}"


def is_local(host: str) -> bool:
    """Whether the daemon is on this machine, where it can see this machine's folders."""
    return host.startswith("unix://")


def get(path: str) -> Any:
    """Ask the daemon for a JSON document, such as /version.

    Raises EngineError when it does not answer, or with something else than JSON.
    """
    content = _request("GET", path)
    try:
        return json.loads(content)
    except ValueError as error:
        raise EngineError(f"no JSON for {path}") from error


def has_image(image: str) -> bool:
    """Whether the image is on this machine. Raises EngineError as get does."""
    return any(image in (entry.get("RepoTags") or []) for entry in get("/images/json"))


def container_user() -> str:
    """Return who writes in a container so that its files are ours: "user:group".

    In a rootless docker that is root, which stands for the user whose docker it is.
    """
    options: list[str] = []
    with contextlib.suppress(EngineError):
        options = get("/info").get("SecurityOptions") or []
    is_rootless = any("rootless" in option for option in options)
    return "0:0" if is_rootless else f"{os.getuid()}:{os.getgid()}"


def remove_leftovers(work: Path) -> None:
    """Remove containers that a killed run left at work in this folder.

    Only those: no other container has the folder of this very run. A daemon that does not answer
    has none.
    """
    filters = quote(json.dumps({"volume": [str(work)]}))
    with contextlib.suppress(EngineError):
        for entry in get(f"/containers/json?all=1&filters={filters}"):
            LOGGER.info("tao: removing container %s of an earlier run", entry["Id"][:12])
            _request("DELETE", f"/containers/{entry['Id']}?force=1")


def _request(method: str, path: str) -> bytes:
    connection = _UnixConnection(docker_host().removeprefix("unix://"))
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise EngineError(reason) from error
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise EngineError(f"HTTP {answer.status} for {path}")
    return content
