"""Events by POST to a real server on loopback that is away, refuses, comes and goes."""

import contextlib
import http.server
import json
import socket
import socketserver
import threading
import time

import pytest

from deploy import sink_post
from deploy.core.commands import Command, Decision
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.sink_post import PostSink, Target, parse_target


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("post+http://robot/hands", Target("robot", 80, "/hands", False)),
        ("post+https://robot/a?b=c", Target("robot", 443, "/a?b=c", True)),
        ("post+http://127.0.0.1:99", Target("127.0.0.1", 99, "/", False)),
    ],
)
def test_target_by_uri(uri, target):
    assert parse_target(uri) == target


@pytest.mark.parametrize("uri", ["post+http://", "post+http://robot:no/x", "post+ftp://robot/x"])
def test_uri_that_is_none_is_one_line(uri):
    with pytest.raises(DeployError, match=r"expected post\+http://HOST"):
        parse_target(uri)


def test_password_in_a_uri_is_refused_and_not_repeated():
    with pytest.raises(DeployError, match="GESTURES_POST_TOKEN") as caught:
        parse_target("post+http://me:secret@robot/x")
    assert "secret" not in str(caught.value)


class Receiver:
    """An HTTP server that keeps what it gets; answers: status codes in turn, then 204."""

    def __init__(self):
        self.bodies = []
        self.headers = []
        self.answers = []
        self.connections = []
        self.port = 0
        self._server = None

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"]))
                code = receiver.answers.pop(0) if receiver.answers else 204
                if code < 300:
                    receiver.bodies.append(json.loads(text.decode("utf-8")))
                    receiver.headers.append(dict(self.headers))
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *values):
                """Quiet."""

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True

            def process_request(self, request, client_address):
                receiver.connections.append(request)
                super().process_request(request, client_address)

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        """End as a killed server does: connections that are kept are cut, too."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def told(self):
        return [(body["frame"], body["phase"]) for body in self.bodies]


def event(frame, phase):
    return GestureEvent(
        frame / 10, "clip", frame, 1, "ok", 0.9, Phase(phase), None, None, (1, 1), 0.0
    )


def wait_for(condition, timeout_s=10.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setattr(sink_post, "BACKOFF_S", (0.05, 0.1))
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def open_sink(receiver, health=None):
    sink = PostSink(f"post+http://127.0.0.1:{receiver.port}/hands", health)
    sink.start((1, 1), 10.0)
    return sink


def test_events_arrive_in_order_with_the_token(receiver, monkeypatch):
    monkeypatch.setenv("GESTURES_POST_TOKEN", "abc")
    sink = open_sink(receiver)
    for frame, phase in ((0, "begin"), (1, "end"), (2, "lost")):
        sink.write(event(frame, phase))
    sink.close()
    assert receiver.told() == [(0, "begin"), (1, "end"), (2, "lost")]
    assert receiver.headers[0]["Authorization"] == "Bearer abc"
    assert receiver.headers[0]["Content-Type"] == "application/json"


def test_server_that_goes_and_comes_misses_no_change_of_a_gesture(receiver):
    health = Health()
    sink = open_sink(receiver, health)
    sink.write(event(0, "begin"))
    wait_for(lambda: receiver.told() == [(0, "begin")])
    receiver.stop()
    sink.write(event(1, "end"))
    sink.write(event(2, "begin"))
    time.sleep(0.3)
    sink.write(event(3, "lost"))
    receiver.start()
    sink.close()
    changes = [row for row in receiver.told() if row[1] != "hold"]
    assert sorted(set(changes)) == [(0, "begin"), (1, "end"), (2, "begin"), (3, "lost")]
    assert changes == sorted(changes)


def test_hold_is_left_out_while_the_server_is_away(monkeypatch):
    monkeypatch.setattr(sink_post, "BACKOFF_S", (0.05, 0.1))
    receiver, health = Receiver(), Health()
    receiver.start()
    receiver.stop()
    sink = open_sink(receiver, health)
    sink.write(event(0, "begin"))
    wait_for(lambda: "post" in health.snapshot().ongoing)
    for frame in range(1, 50):
        sink.write(event(frame, "hold"))
    receiver.start()
    wait_for(lambda: receiver.told())
    sink.write(event(50, "end"))
    sink.close()
    receiver.stop()
    assert receiver.told() == [(0, "begin"), (50, "end")]
    assert health.snapshot().ongoing == set()


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_answer_that_may_change_is_tried_again(receiver, code):
    receiver.answers = [code, code]
    sink = open_sink(receiver)
    sink.write(event(0, "begin"))
    sink.close()
    assert receiver.told() == [(0, "begin")]


def test_answer_that_will_not_change_drops_the_message_and_is_counted(receiver):
    health = Health()
    receiver.answers = [403]
    sink = open_sink(receiver, health)
    sink.write(event(0, "begin"))
    sink.write(event(1, "end"))
    sink.close()
    assert receiver.told() == [(1, "end")]
    assert health.snapshot().faults["post_refused"] == 1


def test_end_waits_no_longer_than_it_says_for_a_server_that_is_away(monkeypatch):
    monkeypatch.setattr(sink_post, "FLUSH_S", 0.3)
    receiver, health = Receiver(), Health()
    receiver.start()
    receiver.stop()
    sink = open_sink(receiver, health)
    sink.write(event(0, "lost"))
    began_s = time.monotonic()
    sink.close()
    assert time.monotonic() - began_s < 2.0
    assert health.snapshot().faults["post_unsent"] == 1


def test_commands_are_sent_and_repetitions_pass(receiver):
    sink = open_sink(receiver)
    decision = Decision(Command("go", 0.5), "gesture", "ok", 1)
    sink.write_command(decision, is_change=True)
    wait_for(lambda: len(receiver.bodies) == 1)
    sink.write_command(decision, is_change=False)
    wait_for(lambda: len(receiver.bodies) == 2)
    sink.close()
    assert [body["command"] for body in receiver.bodies] == ["go", "go"]
