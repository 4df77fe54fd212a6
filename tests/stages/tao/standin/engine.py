"""A stand-in docker engine: the part of its API that NVIDIA's launchers and our checks use."""

import contextlib
import json
import re
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.stages.tao.standin import state

VERSION = {"Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24", "Os": "linux"}
PREFIX = re.compile(r"^/v[0-9.]+")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Engine"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        folder, path = self.server.folder, PREFIX.sub("", urlsplit(self.path).path)
        images = state.read(folder, "images.json", [])
        containers = state.read(folder, "containers.json", {})
        if path == "/version":
            self.answer(VERSION)
        elif path == "/info":
            self.answer(state.read(folder, "info.json", {"Runtimes": {"runc": {}, "nvidia": {}}}))
        elif path == "/images/json":
            self.answer(
                [{"Id": f"sha256:{n:064x}", "RepoTags": [t]} for n, t in enumerate(images)]
            )
        elif match := re.fullmatch(r"/images/(.+)/json", path):
            number = int(match[1].removeprefix("sha256:"), 16) if "sha256" in match[1] else 0
            tags = images[number : number + 1] if "sha256" in match[1] else [match[1]]
            self.answer({"Id": match[1], "RepoTags": tags, "Config": {}})
        elif path == "/containers/json":
            (volume,) = json.loads(parse_qs(urlsplit(self.path).query)["filters"][0])["volume"]
            self.answer(
                [{"Id": name} for name in containers if self.has(containers[name], volume)]
            )
        elif match := re.fullmatch(r"/containers/([0-9a-f]+)/json", path):
            known = containers.get(match[1])
            self.answer({"Id": match[1], **known} if known else {"message": "no such"}, known)
        else:
            self.answer({"message": f"unknown: {path}"}, None)

    @staticmethod
    def has(container: dict[str, Any], volume: str) -> bool:
        binds = container["Config"]["HostConfig"]["Binds"]
        is_there = any(bind.split(":")[0] == volume for bind in binds)
        return is_there and container["State"]["Status"] == "running"

    def do_POST(self) -> None:
        folder, url = self.server.folder, urlsplit(self.path)
        path = PREFIX.sub("", url.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        state.note(folder, "requests.jsonl", {"path": path, "query": url.query, "body": body})
        if path == "/images/create":
            self.pull(parse_qs(url.query))
        elif path == "/containers/create":
            self.create(body)
        elif path.endswith("/stop"):
            self.remove(path.split("/")[2])
        else:
            self.answer(None, True, status=204)

    def do_DELETE(self) -> None:
        state.note(self.server.folder, "requests.jsonl", {"path": self.path, "query": "DELETE"})
        self.remove(urlsplit(self.path).path.rpartition("/")[2])

    def pull(self, query: dict[str, list[str]]) -> None:
        folder = self.server.folder
        if state.take_fault(folder, "pull"):
            message = "pull access denied, repository does not exist or may require docker login"
            self.answer({"message": message}, None)
            return
        images = state.read(folder, "images.json", [])
        state.write(folder, "images.json", [*images, f"{query['fromImage'][0]}:{query['tag'][0]}"])
        self.answer({"status": "Pull complete", "id": "1"})

    def create(self, body: dict[str, Any]) -> None:
        folder = self.server.folder
        with state.locked(folder):
            containers = state.read(folder, "containers.json", {})
            name = f"{len(containers) + 1:064x}"
            containers[name] = {"Config": body, "State": {"Status": "running"}, "Name": name[-6:]}
            state.write(folder, "containers.json", containers)
        self.answer({"Id": name, "Warnings": []}, True, status=201)

    def remove(self, name: str) -> None:
        with state.locked(self.server.folder):
            containers = state.read(self.server.folder, "containers.json", {})
            for known in [full for full in containers if full.startswith(name)]:
                containers[known]["State"] = {"Status": "exited"}
            state.write(self.server.folder, "containers.json", containers)
        self.answer(None, True, status=204)

    def answer(self, content: Any, found: Any = True, *, status: int = 200) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, address: Path, folder: Path) -> None:
        self.folder = folder
        super().__init__(str(address), Handler)


@contextlib.contextmanager
def serve(address: Path, folder: Path) -> Iterator[None]:
    """Run the engine at a socket while the block runs."""
    with Engine(address, folder) as engine:
        thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            engine.shutdown()
            thread.join()
