import errno
import http.client
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling import server
from stages.gesturenet.labelling.journal import PICTURES, read_journal
from stages.gesturenet.labelling.labels import FILE_NAME, read_labels
from stages.gesturenet.labelling.server import MAX_BODY_BYTES, Server
from tests.stages.gesturenet.labelling.samples import CLASSES, serving, write_crops


class Client:
    """A server over four crops in a thread, and requests to it."""

    def __init__(self, out: Path, server: Server) -> None:
        self.out = out
        self.server = server
        self.names = [crop.name for crop in read_journal(out).crops]

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.server.server_address[:2], timeout=10)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            headers.setdefault("Content-Length", str(len(body)))
            for name, value in headers.items():
                if value:
                    connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def post(self, path: str, content: object, **headers: str) -> tuple[int, dict]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent = {"X_Token": self.server.sorting.token, "Content_Type": "application/json"}
        status, reply = self.ask("POST", path, body, **{**sent, **headers})
        return status, json.loads(reply)

    def labels(self) -> dict[str, str]:
        return read_labels(self.out, classes=CLASSES)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    out = tmp_path / "out"
    write_crops(out)
    with serving(out) as opened:
        yield Client(out, opened)


def test_the_page_and_the_listed_pictures_are_served(client: Client) -> None:
    status, page = client.ask("GET", "/")
    assert status == 200
    assert client.server.sorting.token.encode() in page
    name = client.names[1]
    picture = (client.out / PICTURES / name).read_bytes()
    assert client.ask("GET", f"/{PICTURES}/{name}") == (200, picture)


@pytest.mark.parametrize(
    "path",
    [
        "/crops.jsonl",
        "/labels.json",
        "/crops/",
        "/crops/../labels.json",
        "/crops/%2e%2e/labels.json",
    ]
    + ["/crops//etc/passwd", "/../../etc/passwd", "/favicon.ico", "/crops/other.jpg"],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    client.post("/labels", {"labels": {client.names[0]: "ok"}})
    assert client.ask("GET", path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_host_name_is_refused(client: Client, host: str, method: str) -> None:
    status, reply = client.ask(method, "/", Host=host)
    assert status == 403
    assert client.server.sorting.token.encode() not in reply


def test_changes_are_saved_at_once_and_taken_back(client: Client) -> None:
    first, second = client.names[:2]
    changes = {first: "stop", second: "discard"}
    assert client.post("/labels", {"labels": changes}) == (200, {"saved": 2})
    assert client.labels() == changes
    assert client.post("/labels", {"labels": {first: None}}) == (200, {"saved": 1})
    assert client.labels() == {second: "discard"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        ({"labels": {}}, {"X_Token": "wrong"}, 403),
        ({"labels": {}}, {"X_Token": ""}, 403),
        ({"labels": {}}, {"X_Token": "\xe9"}, 403),
        ({"labels": {}}, {"Content_Type": "text/plain"}, 415),
        ({"labels": {}}, {"Content_Type": ""}, 415),
        ({"labels": {}}, {"Content-Length": ""}, 411),
        ({"labels": {}}, {"Content-Length": "-1"}, 411),
        ({"labels": {}}, {"Content-Length": "many"}, 411),
        ({"labels": {}}, {"Content-Length": str(MAX_BODY_BYTES + 1)}, 413),
        ({"labels": {}}, {"Content-Length": "9" * 5000}, 413),
        (b"", {}, 400),
        (b'{"labels": {', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"[1]", {}, 400),
        ({}, {}, 400),
        ({"labels": ["clip_000000-0.jpg"]}, {}, 400),
        ({"labels": {"other.jpg": "ok"}}, {}, 400),
        ({"labels": {"../labels.json": "ok"}}, {}, 400),
        ({"labels": {"/etc/passwd": "ok"}}, {}, 400),
        ({"labels": {"clip_000000-0.jpg": "../../x"}}, {}, 400),
        ({"labels": {"clip_000000-0.jpg": 2}}, {}, 400),
        ({"labels": {"clip_000000-0.jpg": "ok", "other.jpg": "ok"}}, {}, 400),
    ],
)
def test_a_bad_request_changes_nothing(
    client: Client, content: object, headers: dict[str, str], status: int
) -> None:
    seen, reply = client.post("/labels", content, **headers)
    assert seen == status
    assert set(reply) == {"error"}
    assert not (client.out / FILE_NAME).exists()
    assert client.ask("GET", "/")[0] == 200


def test_only_the_two_actions_can_be_posted(client: Client) -> None:
    assert client.post("/", {})[0] == 404
    assert client.ask("PUT", "/labels")[0] == 501


def test_the_export_writes_what_is_sorted(client: Client) -> None:
    assert client.post("/export", {})[0] == 400  # nothing is
    client.post("/labels", {"labels": {client.names[0]: "stop", client.names[1]: "stop"}})
    status, reply = client.post("/export", {})
    assert status == 200
    assert reply["counts"] == {"fist": 0, "stop": 2, "ok": 0}
    assert sorted(p.name for p in (client.out / "classes" / "stop").iterdir()) == client.names[:2]


def test_changes_of_many_pages_at_once_all_arrive(client: Client) -> None:
    threads = [
        threading.Thread(target=client.post, args=("/labels", {"labels": {name: "ok"}}))
        for name in client.names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.labels() == dict.fromkeys(client.names, "ok")


def test_what_was_edited_by_hand_meanwhile_stays(client: Client) -> None:
    text = json.dumps({"schema": 1, "labels": {client.names[0]: "ok"}})
    (client.out / FILE_NAME).write_text(text)
    client.post("/labels", {"labels": {client.names[1]: "stop"}})
    assert client.labels() == {client.names[0]: "ok", client.names[1]: "stop"}


def test_a_full_disk_is_told_and_the_next_change_is_saved(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(out: Path, labels: dict[str, str]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / FILE_NAME))

    changes = {"labels": {client.names[0]: "ok"}}
    with monkeypatch.context() as patch:
        patch.setattr(server, "write_labels", full)
        status, reply = client.post("/labels", changes)
    assert status == 500
    assert reply["error"].endswith("labels.json cannot be written: No space left on device")
    assert client.post("/labels", changes)[0] == 200


def test_a_taken_port_says_how_to_take_another(client: Client) -> None:
    port = client.server.server_address[1]
    with pytest.raises(GestureError, match=f"port {port} of 127.0.0.1: .*--port 0"):
        Server(client.server.sorting, port=port)
