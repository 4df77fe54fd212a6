"""A file server on the loopback, for tests of downloads. What it serves is made up."""

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stages.datasets.fetch import RetryPolicy

BODY = b"PK\x03\x04" + bytes(range(256)) * 4000  # about 1 MB, several chunks
QUICK = RetryPolicy(attempts=3, first_pause_s=0.001)
STATUS = {"/missing.zip": 404, "/login.zip": 401, "/forbidden.zip": 403}


class Server(ThreadingHTTPServer):
    """A file server whose manners the tests set; `log` has (path, Range) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag = '"one"'
        self.ranges = True
        self.cut_after: list[int] = []  # bytes to send before each of the next connections breaks
        self.log: list[tuple[str, str | None]] = []

    def url(self, path: str = "/data.zip") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.path, wanted))
        if self.path in STATUS:
            self.send_error(STATUS[self.path])
            return
        body = b"<html>moved</html>" if self.path == "/page.zip" else server.body
        start = self._start(wanted, len(body))
        if start is not None and start >= len(body):
            self.send_error(416)
            return
        self._send(body, start)

    def _start(self, wanted: str | None, length: int) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        same = self.headers.get("If-Range", self.server.etag) == self.server.etag
        return int(match[1]) if match and self.server.ranges and same else None

    def _send(self, body: bytes, start: int | None) -> None:
        self.send_response(200 if start is None else 206)
        rest = body[start or 0 :]
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(rest)))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.send_header("Content-Type", "text/html" if body[:1] == b"<" else "application/zip")
        self.end_headers()
        cut = self.server.cut_after.pop(0) if self.server.cut_after else len(rest)
        self.wfile.write(rest[:cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve until the block ends."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
