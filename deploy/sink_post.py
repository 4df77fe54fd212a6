"""Events to an HTTP server, a POST each: post+http://HOST[:PORT]/PATH, post+https://...

The body is the event's JSON. A thread of its own sends, so that a slow server delays nobody. Where
the server does not answer, or answers with 408, 429 or 5xx, begin, end, lost and changed commands
wait in order and are tried again (at least once: an answer that is lost doubles one); hold and
repeated commands are left out. Other answers than 2xx drop what was sent; it is said and counted.
GESTURES_POST_TOKEN in the environment is sent as `Authorization: Bearer TOKEN`.
"""

import http.client
import os
import socket
import ssl
import threading
import time
from collections import deque
from typing import Any, Deque, NamedTuple, Optional, Tuple

from deploy.address import parse_address
from deploy.core.commands import Decision, format_decision
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, format_event
from deploy.core.smoother import Phase
from deploy.health import Health

PORTS = {"post+http": 80, "post+https": 443}
TOKEN_VARIABLE = "GESTURES_POST_TOKEN"
TIMEOUT_S = 3.0
BACKOFF_S = (0.5, 10.0)
# How long the end of a run waits for a server that has not taken everything.
FLUSH_S = 5.0
CLOSING_PAUSE_S = 0.1
# What waits at most: hours of gestures, a few megabytes.
LONGEST_QUEUE = 10000
TRY_AGAIN = (408, 429)


class Target(NamedTuple):
    """Where messages go."""

    host: str
    port: int
    path: str
    is_tls: bool


def parse_target(uri: str) -> Target:
    """Read a URI of the module's form. Raises DeployError, also for one that holds a password."""
    address = parse_address(uri, PORTS, secrets=TOKEN_VARIABLE)
    if address is None:
        raise DeployError(f"sink {uri}: expected post+http://HOST[:PORT]/PATH or post+https://...")
    query = address.parts.query
    path = (address.parts.path or "/") + ("?" + query if query else "")
    return Target(address.host, address.port, path, address.is_tls)


class PostSink:
    """Events and commands as requests; the server need not be there at the start."""

    def __init__(self, uri: str, health: Optional[Health] = None) -> None:
        """Raises DeployError for a URI that is none."""
        self.uri = uri
        self.health = health or Health()
        self._target = parse_target(uri)
        self._changed = threading.Condition()
        self._waiting: Deque[str] = deque()
        self._passing: Optional[str] = None
        self._is_reached = True
        self._deadline_s = float("inf")
        self._thread: Optional[threading.Thread] = None
        self._connection: Optional[http.client.HTTPConnection] = None

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Start the thread that sends."""
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def write(self, event: GestureEvent) -> None:
        """Send an event, or keep it for later; never waits."""
        self._put(format_event(event), keep=event.phase is not Phase.HOLD)

    def write_command(self, decision: Decision, *, is_change: bool) -> None:
        """Send a command; one that only repeats the last is left out when the server is away."""
        self._put(format_decision(decision, time_s=time.time()), keep=is_change)

    def close(self) -> None:
        """Wait FLUSH_S at most until everything is sent."""
        if self._thread is None:
            return
        with self._changed:
            self._deadline_s = time.monotonic() + FLUSH_S
            self._changed.notify_all()
        self._thread.join(FLUSH_S + TIMEOUT_S)
        self._thread = None
        if self._waiting:
            self.health.fault("post_unsent", f"{self.uri}: {len(self._waiting)} messages not sent")

    def _put(self, text: str, *, keep: bool) -> None:
        with self._changed:
            if keep:
                if len(self._waiting) >= LONGEST_QUEUE:
                    self._waiting.popleft()
                    self.health.fault("post_full", f"{self.uri}: too much waits; the oldest goes")
                self._waiting.append(text)
            elif self._is_reached:
                self._passing = text
            self._changed.notify_all()

    def _send_all(self) -> None:
        wait_s = BACKOFF_S[0]
        while True:
            text, is_kept = self._take()
            if text is None:
                break
            if self._post(text):
                wait_s = BACKOFF_S[0]
                self._forget(text, is_kept)
            else:
                self._pause(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_S[1])
        self._disconnect()

    def _take(self) -> Tuple[Optional[str], bool]:
        """Wait for the next message; None when the run ends and nothing is left, or no time."""
        with self._changed:
            self._changed.wait_for(self._has_work)
            is_kept = bool(self._waiting)
            text = self._waiting[0] if is_kept else self._passing
            self._passing = None
            return (None if time.monotonic() > self._deadline_s else text), is_kept

    def _has_work(self) -> bool:
        return bool(self._waiting) or self._passing is not None or self._is_closing()

    def _is_closing(self) -> bool:
        return self._deadline_s != float("inf")

    def _forget(self, text: str, is_kept: bool) -> None:
        with self._changed:
            if is_kept and self._waiting and self._waiting[0] is text:
                self._waiting.popleft()

    def _pause(self, wait_s: float) -> None:
        """Wait before the next attempt; shortly when the run ends."""
        with self._changed:
            if not self._changed.wait_for(self._is_closing, wait_s):
                return
        time.sleep(CLOSING_PAUSE_S)

    def _post(self, text: str) -> bool:
        """Send one message; False when it is to be tried again."""
        try:
            status = self._request(text)
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            self._disconnect()
            self._lose(f"no answer: {error}")
            return False
        if status in TRY_AGAIN or status >= 500:
            self._lose(f"it answers {status}")
            return False
        self._is_reached = True
        self.health.recover("post", f"{self.uri}: the server is there")
        if not 200 <= status < 300:
            self.health.fault("post_refused", f"{self.uri}: the server answers {status}; dropped")
        return True

    def _lose(self, why: str) -> None:
        self._is_reached = False
        self.health.fault("post", f"{self.uri}: {why}; messages wait, it is tried again")

    def _request(self, text: str) -> int:
        if self._connection is None:
            self._connection = _connect(self._target)
        headers = {"Content-Type": "application/json"}
        token = os.environ.get(TOKEN_VARIABLE)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._connection.request("POST", self._target.path, text.encode("utf-8"), headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _connect(target: Target) -> http.client.HTTPConnection:
    connection: Any
    if target.is_tls:
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=TIMEOUT_S)
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
