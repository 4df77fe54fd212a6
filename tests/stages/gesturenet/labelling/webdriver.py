"""A real browser for tests, through chromedriver's HTTP interface (W3C WebDriver) alone."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

START_S = 20
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--window-size=1200,900"]


def is_installed() -> bool:
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


class Browser:
    """One page. Keys are characters, or WebDriver's code points for named keys."""

    def __init__(self, address: str) -> None:
        self._base = address
        chrome = {"args": FLAGS, "binary": shutil.which("chromium")}
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base = f"{address}/session/{session['sessionId']}"

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": address})

    def run(self, script: str, *values: object) -> Any:
        """Return what a function body returns in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(values)})

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [_source("key", actions)]})

    def press_with(self, held: str, key: str) -> None:
        steps = [("keyDown", held), ("keyDown", key), ("keyUp", key), ("keyUp", held)]
        actions = [{"type": kind, "value": value} for kind, value in steps]
        self._call("POST", "/actions", {"actions": [_source("key", actions)]})

    def click(self, selector: str, *, index: int = 0, held: str = "") -> None:
        """Click an element with the mouse, a key held down meanwhile."""
        query = {"using": "css selector", "value": selector}
        element = self._call("POST", "/elements", query)[index]
        move = {"type": "pointerMove", "origin": element, "x": 0, "y": 0}
        mouse = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        keys: list[dict] = [{"type": "pause"}] * 2
        if held:
            keys = [{"type": "keyDown", "value": held}, {"type": "pause"}, {"type": "pause"}]
            keys.append({"type": "keyUp", "value": held})
        self._call(
            "POST", "/actions", {"actions": [_source("key", keys), _source("pointer", mouse)]}
        )

    def complaints(self) -> list[str]:
        """Return what the page wrote to the console, errors included."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def close(self) -> None:
        self._call("DELETE", "")

    def _call(self, method: str, path: str, content: object = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start chromedriver and a browser, both ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["chromedriver", f"--port={port}", "--log-level=OFF"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        browser = Browser(f"http://127.0.0.1:{port}")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)


def _source(kind: str, actions: list[dict]) -> dict:
    return {"type": kind, "id": kind, "actions": actions}


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError(f"chromedriver did not answer on port {port}")
