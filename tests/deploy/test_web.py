"""The web page over real sockets: every path, the token, a fuzz, many and slow clients."""

import contextlib
import json
import random
import socket
import time
import urllib.error
import urllib.request

import pytest

from deploy.core.errors import DeployError
from deploy.core.events import lost_event
from deploy.health import Health
from deploy.latency import Latency
from deploy.web import MAX_CLIENTS, QUEUE, WebEvents, WebPictures, WebServer
from tests.deploy.tiny_models import draw_frame

EVENT = lost_event(time=0.5, source="x", frame=1, track=2, image_wh=(64, 48), latency_ms=1.0)


class Page:
    def __init__(self):
        self.health, self.latency = Health(), Latency()
        self.server = WebServer("http://127.0.0.1:0", self.health, self.latency)
        self.events, self.pictures = WebEvents(self.server), WebPictures(self.server)
        self.events.start((64, 48), 10.0)
        self.pictures.start((64, 48), 10.0)

    def open(self, path, token=None):
        headers = {} if token is None else {"Authorization": "Bearer " + token}
        host, port = self.server.address
        request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
        return urllib.request.urlopen(request, timeout=5)

    def code(self, path, token=None):
        try:
            with self.open(path, token) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def connect(self):
        return socket.create_connection(self.server.address, timeout=5)

    def close(self):
        self.events.close()
        self.pictures.close()


@pytest.fixture
def page():
    page = Page()
    yield page
    page.close()


def test_healthz_is_503_until_frames_come_and_while_the_source_is_away(page):
    assert page.code("/healthz") == 503
    page.health.add_frame()
    assert page.code("/healthz") == 200
    page.health.fault("source", "gone")
    assert page.code("/healthz") == 503


def test_metrics_have_counts_and_seconds(page):
    page.health.add_frame(3)
    page.health.add_event("begin")
    page.health.fault("model_nan", "nan")
    page.latency.add("detect", 12.0)
    with page.open("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = answer.read().decode().splitlines()
    assert "hand_gestures_frames_total 1" in lines
    assert "hand_gestures_frames_dropped_total 3" in lines
    assert 'hand_gestures_events_total{phase="begin"} 1' in lines
    assert 'hand_gestures_faults_total{kind="model_nan"} 1' in lines
    assert 'hand_gestures_step_seconds{step="detect",quantile="0.5"} 0.0120000' in lines


def test_events_are_server_sent(page):
    with page.open("/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        page.events.write(EVENT)
        line = answer.readline().decode()
    assert line.startswith("data: ")
    assert json.loads(line[len("data: ") :])["phase"] == "lost"


def test_stream_is_jpeg_and_nothing_is_encoded_without_a_watcher(page):
    page.pictures.write(draw_frame([]), 0)
    assert page.server.next_picture(-1) == (0, b"")
    with page.open("/stream") as answer:
        deadline_s = time.monotonic() + 5
        while page.server._watchers == 0 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        page.pictures.write(draw_frame([]), 1)
        assert answer.readline() == b"--frame\r\n"
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().split(b":")[1])
        answer.readline()
        assert answer.read(length)[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/", 200), ("/status", 200), ("/nothing", 404), ("/../web.py", 404), ("/?token=x", 200)],
)
def test_paths(page, path, code):
    assert page.code(path) == code


def test_open_address_needs_a_token(monkeypatch):
    monkeypatch.delenv("GESTURES_TOKEN", raising=False)
    with pytest.raises(DeployError, match="needs a token"):
        WebServer("http://0.0.0.0:8080", Health(), Latency())


def test_token_is_asked_for_on_every_path(monkeypatch):
    monkeypatch.setenv("GESTURES_TOKEN", "right")
    page = Page()
    try:
        for path in ("/", "/status", "/events", "/stream", "/metrics", "/healthz", "/x"):
            assert page.code(path) == 401
            assert page.code(path, "wrong") == 401
        assert page.code("/status", "right") == 200
        assert page.code("/status?token=right") == 200
        assert page.code("/status?token=%C3%A9") == 401
    finally:
        page.close()


@pytest.mark.parametrize("uri", ["http://127.0.0.1", "http://127.0.0.1:x", "http://127.0.0.1:1/a"])
def test_uri_that_is_none_is_one_line(uri):
    with pytest.raises(DeployError, match="expected http://127"):
        WebServer(uri, Health(), Latency())


def test_address_that_is_taken_is_one_line(page):
    second = WebEvents(
        WebServer(f"http://127.0.0.1:{page.server.address[1]}", Health(), Latency())
    )
    with pytest.raises(DeployError, match="another port"):
        second.start((64, 48), 10.0)


def malformed(rng):
    """A request that is none: random bytes, cut or with bytes changed."""
    if rng.random() < 0.3:
        return bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 80)))
    text = bytearray(
        b"GET /status?token=%zz HTTP/1.1\r\nHost: [x\r\nAuthorization: Bearer y\r\n\r\n"
    )
    for _ in range(rng.randrange(1, 8)):
        text[rng.randrange(len(text))] = rng.getrandbits(8)
    return bytes(text[: rng.randrange(1, len(text))])


def test_ten_thousand_malformed_requests_do_no_harm(page):
    rng = random.Random(5)
    for _ in range(10000):
        # A full server closes at once, which may come before the request is sent.
        with page.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(malformed(rng))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                continue
    page.health.add_frame()
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        try:
            if page.code("/healthz") == 200:
                break
        except OSError:  # its slots are still being freed
            time.sleep(0.05)
    assert page.code("/healthz") == 200


def test_hundred_connections_are_served_or_refused_at_once(page):
    clients = [page.connect() for _ in range(100)]
    try:
        for client in clients:
            try:
                client.sendall(b"GET /events HTTP/1.0\r\n\r\n")
            except OSError:
                continue  # refused already
        deadline_s = time.monotonic() + 5

        def counts():
            refused = page.health.snapshot().faults.get("web_full", 0)
            return len(page.server._listeners), refused

        while sum(counts()) < 100 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert counts() == (MAX_CLIENTS, 100 - MAX_CLIENTS)
        started = time.perf_counter()
        page.events.write(EVENT)
        assert time.perf_counter() - started < 0.5
    finally:
        for client in clients:
            client.close()


def test_client_that_reads_nothing_is_cut_and_delays_nobody(page):
    listener = page.server.listen()
    started = time.perf_counter()
    for _ in range(QUEUE + 1):
        page.events.write(EVENT)
    assert time.perf_counter() - started < 1.0
    assert not page.server.is_listening(listener)
    assert page.health.snapshot().faults == {"web_slow": 1}
