"""Events over a real broker (mosquitto on loopback) that is killed and started again."""

import json
import shutil
import socket
import subprocess
import time

import pytest

from deploy.core.commands import Command, Decision
from deploy.core.errors import DeployError
from deploy.core.events import lost_event
from deploy.core.smoother import Phase
from deploy.sink_mqtt import Broker, MqttSink, parse_broker

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


@pytest.mark.parametrize(
    ("uri", "broker"),
    [
        ("mqtt://robot/hands", Broker("robot", 1883, "hands", False)),
        ("mqtts://robot/a/b", Broker("robot", 8883, "a/b", True)),
        ("mqtt://127.0.0.1:99/x", Broker("127.0.0.1", 99, "x", False)),
    ],
)
def test_broker_by_uri(uri, broker):
    assert parse_broker(uri) == broker


@pytest.mark.parametrize(
    "uri",
    ["mqtt://robot", "mqtt:///x", "mqtt://robot:no/x", "mqtt://robot/+", "mqtt://robot/x/#"],
)
def test_uri_that_is_none_is_one_line(uri):
    with pytest.raises(DeployError, match=r"expected mqtt://HOST"):
        parse_broker(uri)


def test_password_in_a_uri_is_refused_and_not_repeated():
    with pytest.raises(DeployError, match="MQTT_PASSWORD") as caught:
        parse_broker("mqtt://me:secret@robot/x")
    assert "secret" not in str(caught.value)


class RealBroker:
    """mosquitto with a store on disk, so that a subscriber's session outlives a kill."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            "user root\n"
        )

    def start(self):
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._answers)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def _answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def wait_for(condition, timeout_s=15.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def broker(tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt")
    if MOSQUITTO is None:
        pytest.skip("needs mosquitto: make system-packages")
    broker = RealBroker(tmp_path)
    yield broker
    broker.kill()


class Subscriber:
    """A client whose session the broker keeps."""

    def __init__(self, port):
        from paho.mqtt import client as mqtt

        self.messages = []
        options = {"client_id": "subscriber", "clean_session": False}
        if hasattr(mqtt, "CallbackAPIVersion"):
            self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **options)
        else:
            self._client = mqtt.Client(**options)
        self.is_subscribed = False
        self._client.on_connect = lambda client, *rest: client.subscribe("hands/#", qos=1)
        self._client.on_subscribe = lambda *rest: setattr(self, "is_subscribed", True)
        self._client.on_message = lambda client, userdata, message: self.messages.append(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self.is_subscribed)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()

    def frames(self):
        found = [m for m in self.messages if m.topic == "hands" and not m.dup]
        return [json.loads(m.payload.decode())["frame"] for m in found]

    def status(self):
        return [m.payload.decode() for m in self.messages if m.topic == "hands/status"]


def event(frame, phase=Phase.LOST):
    made = lost_event(
        time=0.0, source="x", frame=frame, track=1, image_wh=(64, 48), latency_ms=1.0
    )
    return made._replace(phase=phase)


@pytest.fixture
def sink(broker):
    sink = MqttSink(f"mqtt://127.0.0.1:{broker.port}/hands")
    yield sink
    sink.close()


def test_events_and_status_arrive(broker, sink):
    broker.start()
    subscriber = Subscriber(broker.port)
    sink.start((64, 48), 10.0)
    for frame in range(50):
        sink.write(event(frame))
    sink.close()
    wait_for(lambda: subscriber.status()[-1:] == ["offline"])
    subscriber.close()
    assert subscriber.frames() == list(range(50))
    assert subscriber.status() == ["online", "offline"]


def test_broker_killed_and_restarted_misses_no_change_of_a_gesture(broker, sink):
    broker.start()
    subscriber = Subscriber(broker.port)
    sink.start((64, 48), 10.0)
    sink.write(event(0, Phase.END))
    wait_for(lambda: subscriber.frames() == [0])
    broker.kill()
    wait_for(lambda: sink.health.snapshot().ongoing == {"mqtt"})
    for frame in range(1, 40):
        phase = (Phase.HOLD, Phase.END, Phase.LOST)[frame % 3]
        sink.write(event(frame, phase))
    broker.start()
    wanted = [0] + [frame for frame in range(1, 40) if frame % 3]
    wait_for(lambda: set(wanted) <= set(subscriber.frames()))
    sink.close()
    subscriber.close()
    # What the broker had delivered when it was killed may come again, marked as a duplicate.
    assert subscriber.frames() == wanted
    assert sink.health.snapshot().ongoing == set()


def test_broker_that_comes_late_gets_what_waited(broker, sink):
    broker.start()
    subscriber = Subscriber(broker.port)  # whose session the broker keeps
    broker.kill()
    sink.start((64, 48), 10.0)
    for frame in range(5):
        sink.write(event(frame))
    wait_for(lambda: sink.health.snapshot().faults.get("mqtt", 0) > 0)
    broker.start()
    wait_for(lambda: len(subscriber.frames()) >= 5)
    subscriber.close()
    assert subscriber.frames() == list(range(5))


def test_process_that_is_cut_off_leaves_its_will(broker, sink):
    broker.start()
    subscriber = Subscriber(broker.port)
    sink.start((64, 48), 10.0)
    wait_for(lambda: subscriber.status() == ["online"])
    sink._client.socket().shutdown(socket.SHUT_RDWR)
    wait_for(lambda: len(subscriber.status()) >= 2)
    subscriber.close()
    assert "offline" in subscriber.status()


def openssl(folder, *arguments):
    subprocess.check_call(
        ["openssl"] + list(arguments),
        cwd=str(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def make_authority(folder, name):
    """A private authority, and a certificate of it for 127.0.0.1."""
    folder.mkdir()
    subject = ["-subj", f"/CN={name}"]
    openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        "2",
        *subject,
    )
    openssl(
        folder,
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=127.0.0.1",
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.crt",
        "-days",
        "2",
        "-extfile",
        "names",
    )
    return folder / "ca.crt"


# paho 2.1.0 leaves the socket of a refused TLS connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_checked_and_a_foreign_authority_refused(tmp_path, broker, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    authority = make_authority(tmp_path / "own", "own")
    foreign = make_authority(tmp_path / "foreign", "foreign")
    own = tmp_path / "own"
    with broker._config.open("a") as stream:
        stream.write(f"certfile {own}/server.crt\nkeyfile {own}/server.key\n")
    broker.start()
    health = {}
    for name, path in (("own", authority), ("foreign", foreign)):
        monkeypatch.setenv("MQTT_CA_FILE", str(path))
        sink = MqttSink(f"mqtts://127.0.0.1:{broker.port}/hands")
        sink.start((64, 48), 10.0)
        if name == "own":
            wait_for(sink._is_connected.is_set)
            sink.write(event(0))
        else:
            wait_for(lambda sink=sink: sink.health.snapshot().faults.get("mqtt", 0) > 0)
            assert not sink._is_connected.is_set()
        sink.close()
        health[name] = sink.health.snapshot()
    assert health["own"].faults == {}
    assert "mqtt" in health["foreign"].faults


def test_authority_that_cannot_be_read_is_one_line(monkeypatch, tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt")
    monkeypatch.setenv("MQTT_CA_FILE", str(tmp_path / "no.crt"))
    with pytest.raises(DeployError, match=r"MQTT_CA_FILE .*no\.crt cannot be read"):
        MqttSink("mqtts://127.0.0.1:1/hands").start((64, 48), 10.0)


def test_commands_change_with_qos_1_and_repeat_with_qos_0(broker, sink):
    broker.start()
    subscriber = Subscriber(broker.port)
    sink.start((0, 0), 0.0)
    wait_for(sink._is_connected.is_set)
    decision = Decision(Command("go", 0.1), "gesture", "ok", 1)
    for is_change in (True, False, False):
        sink.write_command(decision, is_change=is_change)
    sink.close()
    wait_for(lambda: subscriber.status()[-1:] == ["offline"])
    subscriber.close()
    told = [message for message in subscriber.messages if message.topic == "hands"]
    assert [json.loads(message.payload.decode())["command"] for message in told] == ["go"] * 3
    assert [message.qos for message in told] == [1, 0, 0]
