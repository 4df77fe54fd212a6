"""Events to an MQTT broker: mqtt://HOST[:1883]/TOPIC, mqtts://HOST[:8883]/TOPIC for TLS.

| topic | messages |
|---|---|
| TOPIC | events; begin, end and lost with QoS 1, hold with QoS 0 |
| TOPIC, as --command-sink | commands; a change with QoS 1, a repetition with QoS 0 |
| TOPIC/status | retained: online; offline when the run ends; as last will, when it is cut off |

Without the broker, what has QoS 1 waits in order and is sent when it is back (at least once: a cut
may double the last); the rest is left out. User and password come from the environment:
MQTT_USERNAME, MQTT_PASSWORD; an authority's certificate that the system does not know:
MQTT_CA_FILE. Needs paho-mqtt 1.6 (the last for Python 3.6) or 2.x.
"""

import os
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

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 5
RECONNECT_S = (1, 10)
# How long the end of a run waits for a broker that has not confirmed everything.
FLUSH_S = 5.0


class Broker(NamedTuple):
    """Where messages go."""

    host: str
    port: int
    topic: str
    is_tls: bool


def parse_broker(uri: str) -> Broker:
    """Read a URI of the module's form. Raises DeployError, also for one that holds a password."""
    address = parse_address(uri, PORTS, secrets="MQTT_USERNAME, MQTT_PASSWORD")
    topic = "" if address is None else address.parts.path.strip("/")
    if address is None or not topic or any(sign in uri for sign in "+#?"):
        raise DeployError(f"sink {uri}: expected mqtt://HOST[:PORT]/TOPIC or mqtts://...")
    return Broker(address.host, address.port, topic, address.is_tls)


class MqttSink:
    """Events as messages; the broker need not be there at the start."""

    def __init__(self, uri: str, health: Optional[Health] = None) -> None:
        """Raises DeployError for a URI that is none."""
        self.uri = uri
        self.health = health or Health()
        self._broker = parse_broker(uri)
        self._client: Any = None
        self._waiting: Deque[Any] = deque()
        self._is_connected = threading.Event()
        self._is_closing = False

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Begin to connect, on a thread of its own. Raises DeployError without paho-mqtt."""
        client = _make_client()
        broker = self._broker
        user = os.environ.get("MQTT_USERNAME")
        if user:
            client.username_pw_set(user, os.environ.get("MQTT_PASSWORD"))
        if broker.is_tls:
            _set_tls(client)
        client.will_set(f"{broker.topic}/status", "offline", qos=1, retain=True)
        client.max_queued_messages_set(0)  # no limit: what waits are changes of gestures alone
        client.reconnect_delay_set(*RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_disconnect
        client.on_disconnect = self._on_disconnect
        client.connect_async(broker.host, broker.port, keepalive=KEEPALIVE_S)
        client.loop_start()
        self._client = client

    def write(self, event: GestureEvent) -> None:
        """Send an event, or keep it for later; never waits."""
        self._send(format_event(event), keep=event.phase is not Phase.HOLD)

    def write_command(self, decision: Decision, *, is_change: bool) -> None:
        """Send a command; one that only repeats the last is left out without the broker."""
        self._send(format_decision(decision, time_s=time.time()), keep=is_change)

    def _send(self, text: str, *, keep: bool) -> None:
        if not keep and not self._is_connected.is_set():
            return
        message = self._client.publish(self._broker.topic, text, qos=1 if keep else 0)
        if keep:
            # paho 1.6.1 and 2.1.0 queue a message without a broker and yet keep MQTT_ERR_NO_CONN
            # in it for good, with which is_published raises; drop this when neither does.
            message.rc = 0
            self._waiting.append(message)
        self._forget_confirmed()

    def close(self) -> None:
        """Wait FLUSH_S at most for confirmations, say offline, and leave."""
        if self._client is None:
            return
        deadline_s = time.monotonic() + FLUSH_S
        self._flush(deadline_s)
        if self._waiting:
            self.health.fault("mqtt_unsent", f"{self.uri}: {len(self._waiting)} events not sent")
        elif self._is_connected.is_set():
            status = f"{self._broker.topic}/status"
            self._waiting.append(self._client.publish(status, "offline", qos=1, retain=True))
            self._flush(deadline_s)
        self._is_closing = True
        self._client.disconnect()
        self._client.loop_stop()
        self._client = None

    def _flush(self, deadline_s: float) -> None:
        while self._waiting and time.monotonic() < deadline_s:
            self._forget_confirmed()
            time.sleep(0.01)

    def _forget_confirmed(self) -> None:
        while self._waiting and self._waiting[0].is_published():
            self._waiting.popleft()

    # paho 1.x and 2.x give these two more or fewer arguments at the end.
    def _on_connect(self, client: Any, userdata: Any, flags: Any, code: Any, *more: Any) -> None:
        if code != 0:
            self.health.fault("mqtt", f"{self.uri}: the broker refuses: {code}; it is tried again")
            return
        client.publish(f"{self._broker.topic}/status", "online", qos=1, retain=True)
        self._is_connected.set()
        self.health.recover("mqtt", f"{self.uri}: the broker is there")

    def _on_disconnect(self, *arguments: Any) -> None:
        self._is_connected.clear()
        if not self._is_closing:
            self.health.fault("mqtt", f"{self.uri}: no broker; events wait, it is tried again")


def _make_client() -> Any:
    try:
        from paho.mqtt import client as mqtt
    except ImportError:
        raise DeployError(
            "sink mqtt needs paho-mqtt; run: pip install paho-mqtt (1.6.1 for Python 3.6)"
        ) from None
    if hasattr(mqtt, "CallbackAPIVersion"):  # since 2.0
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    return mqtt.Client()


def _set_tls(client: Any) -> None:
    path: Optional[str] = os.environ.get("MQTT_CA_FILE")
    try:
        client.tls_set(ca_certs=path)
    except (OSError, ValueError) as error:
        raise DeployError(f"MQTT_CA_FILE {path} cannot be read: {error}") from None
