"""A web page of a run: http://127.0.0.1:8080.

| path | |
|---|---|
| / | the page: pictures, current gesture, events, latency |
| /stream | drawn frames as MJPEG (multipart/x-mixed-replace) |
| /events | events as server-sent events, from now on |
| /status | counts, latencies and faults as JSON |
| /healthz | 200 while the source gives frames, else 503 |
| /metrics | for Prometheus |

Only GET, nothing of a request is run or opened. An address other than 127.0.0.1, ::1 or localhost
needs a token in the environment (GESTURES_TOKEN), sent as `Authorization: Bearer TOKEN` or
`?token=TOKEN`. At most MAX_CLIENTS connections at a time; a slow one misses pictures and, when it
is QUEUE events behind, is cut.
"""

import hmac
import json
import os
import queue
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, format_event
from deploy.health import Health
from deploy.latency import Latency
from deploy.metrics import format_metrics

TOKEN_VARIABLE = "GESTURES_TOKEN"
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
PAGE = Path(__file__).with_name("web.html")
MAX_CLIENTS = 64
QUEUE = 256
CLIENT_TIMEOUT_S = 10.0
# An idle stream sends something this often, so that a client that has gone is noticed.
KEEPALIVE_S = 2.0
# A source that is silent for this long is not healthy.
STALE_S = 2.0
JPEG_QUALITY = 75
BOUNDARY = "frame"

Listener = queue.Queue


class WebServer:
    """The server and what it shows, from the first start of its two sinks to the last close."""

    def __init__(self, uri: str, health: Health, latency: Latency) -> None:
        """Raises DeployError for a URI that is none, or an open address without a token."""
        self.uri = uri
        self.health = health
        self.latency = latency
        self.token = os.environ.get(TOKEN_VARIABLE, "")
        self.is_closing = False
        self.address = _parse_address(uri, self.token)
        self._lock = threading.Lock()
        self._users = 0
        self._server: Optional[_Server] = None
        self._listeners: List[Listener] = []
        self._watchers = 0
        self._picture = threading.Condition()
        self._jpeg: Tuple[int, bytes] = (0, b"")

    def start(self) -> None:
        """Listen. Raises DeployError when the address is taken."""
        with self._lock:
            self._users += 1
            if self._server is not None:
                return
            try:
                self._server = _Server(self.address, self)
            except OSError as error:
                self._users -= 1
                raise DeployError(
                    f"sink {self.uri} cannot listen: {error.strerror}; choose another port"
                ) from None
            self.address = self._server.server_address[:2]  # type: ignore[assignment]
            threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening when the last user closes."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._server is None:
                return
            self.is_closing = True
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def tell(self, line: str) -> None:
        """Give an event to every listener; one that is QUEUE behind is cut."""
        with self._lock:
            for listener in list(self._listeners):
                try:
                    listener.put_nowait(line)
                except queue.Full:
                    self._listeners.remove(listener)
                    self.health.fault("web_slow", "a web client is too slow for events; it is cut")

    def show(self, image: np.ndarray) -> None:
        """Give a picture to those who watch; encoded only if there are any."""
        if not self._watchers:
            return
        is_encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if is_encoded:
            with self._picture:
                self._jpeg = (self._jpeg[0] + 1, data.tobytes())
                self._picture.notify_all()

    def listen(self) -> Listener:
        """Return a queue that gets the events from now on."""
        listener: Listener = queue.Queue(QUEUE)
        with self._lock:
            self._listeners.append(listener)
        return listener

    def is_listening(self, listener: Listener) -> bool:
        """False when it was cut, or the server ends."""
        with self._lock:
            return listener in self._listeners and not self.is_closing

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def watch(self, step: int) -> None:
        """Count a watcher in (1) or out (-1)."""
        with self._lock:
            self._watchers += step

    def next_picture(self, seen: int) -> Tuple[int, bytes]:
        """Wait KEEPALIVE_S at most for a picture after `seen`; the same one if none came."""
        with self._picture:
            self._picture.wait_for(lambda: self._jpeg[0] != seen, KEEPALIVE_S)
            return self._jpeg


class _WebSink:
    """What the page's two parts share: the server, which the first opens and the last closes."""

    def __init__(self, server: WebServer) -> None:
        self.uri = server.uri
        self._server = server
        self._is_open = False

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Listen."""
        self._server.start()
        self._is_open = True

    def close(self) -> None:
        """Stop."""
        if self._is_open:
            self._is_open = False
            self._server.close()


class WebEvents(_WebSink):
    """The web page's part that takes events."""

    def write(self, event: GestureEvent) -> None:
        """Tell an event; never waits for a client."""
        self._server.tell(format_event(event))


class WebPictures(_WebSink):
    """The web page's part that takes pictures."""

    def write(self, image: np.ndarray, index: int) -> bool:
        """Show a frame; True. Never waits for a client."""
        self._server.show(image)
        return True


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    """A thread per connection (http.server has this class only since Python 3.7)."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: Tuple[str, int], web: WebServer) -> None:
        self.web = web
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that HTTPServer does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve on a new thread, or refuse at once when MAX_CLIENTS are served."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        self.web.health.fault("web_full", f"web page: more than {MAX_CLIENTS} clients")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and free the slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count what a client's connection broke with, without a traceback."""
        self.web.health.fault("web_client", "a web client broke its connection; it is counted")


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server: _Server
    server_version = "hand-gestures"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the module's paths."""
        try:
            parts = urlsplit(self.path)
            token = parse_qs(parts.query).get("token", [""])[0]
        except ValueError:
            self._send(400, "text/plain", b"bad request\n")
            return
        if not self._is_allowed(token):
            self._send(401, "text/plain", b"token missing or wrong\n")
            return
        answers: Dict[str, Callable[[], None]] = {
            "/": self._page,
            "/stream": self._stream,
            "/events": self._events,
            "/status": self._status,
            "/healthz": self._healthz,
            "/metrics": self._metrics,
        }
        answers.get(parts.path, self._not_found)()

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        """Requests are not logged."""

    def _is_allowed(self, token: str) -> bool:
        wanted = self.server.web.token
        if not wanted:
            return True
        header = self.headers.get("Authorization", "")
        given = header[len("Bearer ") :] if header.startswith("Bearer ") else token
        return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8"))

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self._end_headers(kind, len(body))
        self.wfile.write(body)

    def _end_headers(self, kind: str, length: Optional[int] = None) -> None:
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def _not_found(self) -> None:
        self._send(404, "text/plain", b"not found\n")

    def _page(self) -> None:
        self._send(200, "text/html; charset=utf-8", PAGE.read_bytes())

    def _status(self) -> None:
        web = self.server.web
        document = web.health.snapshot()._asdict()
        document["ongoing"] = sorted(document["ongoing"])
        document["latency"] = web.latency.summary()
        self._send(200, "application/json", json.dumps(document).encode("utf-8"))

    def _healthz(self) -> None:
        seen = self.server.web.health.snapshot()
        is_well = seen.idle_s is not None and seen.idle_s < STALE_S
        is_well = is_well and "source" not in seen.ongoing
        body = b"ok\n" if is_well else b"the source gives no frames\n"
        self._send(200 if is_well else 503, "text/plain", body)

    def _metrics(self) -> None:
        web = self.server.web
        text = format_metrics(web.health.snapshot(), web.latency.summary())
        self._send(200, "text/plain; version=0.0.4; charset=utf-8", text.encode("utf-8"))

    def _events(self) -> None:
        web = self.server.web
        listener = web.listen()
        try:
            self.send_response(200)
            self._end_headers("text/event-stream")
            while web.is_listening(listener):
                try:
                    text = f"data: {listener.get(timeout=KEEPALIVE_S)}\n\n"
                except queue.Empty:
                    text = ": still here\n\n"
                self.wfile.write(text.encode("utf-8"))
        finally:
            web.leave(listener)

    def _stream(self) -> None:
        web, seen = self.server.web, -1
        web.watch(1)
        try:
            self.send_response(200)
            self._end_headers(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            while not web.is_closing:
                seen, jpeg = web.next_picture(seen)
                if jpeg:
                    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                    head += f"Content-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode("ascii") + jpeg + b"\r\n")
        finally:
            web.watch(-1)


def _parse_address(uri: str, token: str) -> Tuple[str, int]:
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "http" or not parts.hostname or port is None or parts.path.strip("/"):
        raise DeployError(f"sink {uri}: expected http://127.0.0.1:PORT")
    if parts.hostname not in LOCAL_HOSTS and not token:
        raise DeployError(
            f"sink {uri} can be reached from other machines and needs a token; "
            f"run: export {TOKEN_VARIABLE}=$(openssl rand -hex 16)"
        )
    return parts.hostname, port
