"""The local server behind the page: http.server on 127.0.0.1.

GET / is the page and GET /crops/<name> a listed picture; POST /labels saves, POST /export writes
the class folders. A POST carries the token of the page, so that other sites cannot send one, and
a Host other than this machine's is refused, so that they cannot read the token either (DNS
rebinding). A name is looked up among the crops; no path is ever made of what a request says.
"""

import json
import logging
import secrets
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from deploy.core.errors import UserError
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.class_folders import write_class_folders
from stages.gesturenet.labelling.journal import PICTURES, Content
from stages.gesturenet.labelling.labels import (
    Tally,
    apply_changes,
    check_changes,
    count_labels,
    read_labels,
    write_labels,
)
from stages.gesturenet.labelling.page import render_page

LOGGER = logging.getLogger(__name__)
HOST = "127.0.0.1"
LOCAL_NAMES = ("127.0.0.1", "localhost")
MAX_BODY_BYTES = 1 << 20
IDLE_TIMEOUT_S = 30


class Refusal(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Sorting:
    """The crops of a folder and what is said of them; its state is labels.json alone."""

    def __init__(self, out: Path, content: Content, *, folder: Path, command: str) -> None:
        """folder: where class folders go; command: how to start the tool again."""
        self.token = secrets.token_urlsafe(24)
        self.nonce = secrets.token_urlsafe(12)
        self._out = out
        self._crops = content.crops
        self._classes = content.settings.classes
        self._pictures = {crop.name: out / PICTURES / crop.name for crop in content.crops}
        self._folder = folder
        self._command = command
        self._lock = threading.Lock()

    def page(self) -> str:
        """Return the page with the labels of this moment."""
        return render_page(
            self._crops,
            self._labels(),
            classes=self._classes,
            command=self._command,
            token=self.token,
            nonce=self.nonce,
        )

    def picture(self, name: str) -> Path | None:
        """Return the file of a crop, None for a name that is not listed."""
        return self._pictures.get(name)

    def change(self, changes: object) -> int:
        """Check changes {name: class or None}, save them and return how many there were."""
        checked = check_changes(changes, names=self._pictures.keys(), classes=self._classes)
        with self._lock:
            write_labels(self._out, apply_changes(self._labels(), checked))
        return len(checked)

    def export(self) -> dict[str, Any]:
        """Write the class folders; return where they are and the number of crops by class."""
        with self._lock:
            counts = write_class_folders(
                self._out, self._folder, self._crops, self._labels(), classes=self._classes
            )
        return {"folder": str(self._folder), "counts": counts}

    def tally(self) -> Tally:
        """Count what is sorted at this moment."""
        return count_labels(self._crops, self._labels(), classes=self._classes)

    def _labels(self) -> dict[str, str]:
        return read_labels(self._out, classes=self._classes)


class Server(ThreadingHTTPServer):
    """Serves one Sorting; use it as a context manager around serve_forever()."""

    def __init__(self, sorting: Sorting, *, port: int) -> None:
        """port 0: any free one. Raises: GestureError when the port is taken."""
        self.sorting = sorting
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise GestureError(
                f"port {port} of {HOST}: {error.strerror}; take a free one: --port 0"
            ) from None

    @property
    def address(self) -> str:
        """The page's URL."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Reply(NamedTuple):
    kind: str
    body: bytes
    cache: str = "no-store"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    server: Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        LOGGER.debug(format, *args)

    def _get(self) -> _Reply:
        path = self.path.split("?")[0]
        if path == "/":
            return _Reply("text/html; charset=utf-8", self.server.sorting.page().encode())
        folder, _, name = path.lstrip("/").partition("/")
        file = self.server.sorting.picture(name) if folder == PICTURES else None
        if file is None or not file.is_file():
            raise Refusal(HTTPStatus.NOT_FOUND, "nothing here")
        return _Reply("image/jpeg", file.read_bytes(), "private, max-age=3600")

    def _post(self) -> _Reply:
        if not secrets.compare_digest(
            self.headers.get("X-Token", "").encode(), self.server.sorting.token.encode()
        ):
            raise Refusal(HTTPStatus.FORBIDDEN, "wrong token: the program was restarted; reload")
        content = self._read_json()
        if self.path == "/labels":
            return _json({"saved": self.server.sorting.change(content.get("labels"))})
        if self.path == "/export":
            return _json(self.server.sorting.export())
        raise Refusal(HTTPStatus.NOT_FOUND, "nothing here")

    def _read_json(self) -> Mapping[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_BODY_BYTES} bytes"
            )
        try:
            content = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None
        if not isinstance(content, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return content

    def _answer(self, make: Any) -> None:
        status = HTTPStatus.OK
        try:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in LOCAL_NAMES:
                raise Refusal(HTTPStatus.FORBIDDEN, f"expected the host {HOST}")
            reply = make()
        except Refusal as error:
            status, reply = error.status, _json({"error": str(error)})
        except UserError as error:
            status, reply = HTTPStatus.BAD_REQUEST, _json({"error": str(error)})
        except OSError as error:
            status, reply = _failure(error)
        self._send(status, reply)

    def _send(self, status: HTTPStatus, reply: _Reply) -> None:
        self.send_response(status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", reply.cache)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"style-src 'unsafe-inline'; script-src 'nonce-{self.server.sorting.nonce}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        if status >= HTTPStatus.BAD_REQUEST:  # a body may be left unread
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)


def _failure(error: OSError) -> tuple[HTTPStatus, _Reply]:
    if isinstance(error, ConnectionError | TimeoutError):
        raise error
    message = f"{error.filename or 'the folder'} cannot be written: {error.strerror}"
    return HTTPStatus.INTERNAL_SERVER_ERROR, _json({"error": message})


def _json(value: Any) -> _Reply:
    return _Reply("application/json", json.dumps(value).encode())
