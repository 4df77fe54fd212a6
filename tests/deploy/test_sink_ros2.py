"""Events and commands to ROS 2, against a fake of rclpy (fake_rclpy says what it is made from)."""

import json

import pytest

from deploy.core.commands import Command, Decision
from deploy.core.errors import DeployError
from deploy.core.events import lost_event
from deploy.sink_ros2 import Ros2Sink, parse_topic
from tests.deploy import fake_rclpy

LOST = lost_event(time=1.0, source="cam", frame=3, track=2, image_wh=(8, 6), latency_ms=1.0)


@pytest.mark.parametrize(
    ("uri", "topic"), [("ros2://cmd_vel", "/cmd_vel"), ("ros2:///hands/events/", "/hands/events")]
)
def test_topic_by_uri(uri, topic):
    assert parse_topic(uri) == topic


@pytest.mark.parametrize(
    "uri", ["ros2://", "ros2://1st", "ros2://a b", "ros2://a//b", "ros2://a-b"]
)
def test_topic_that_ros_would_not_take_is_one_line(uri):
    with pytest.raises(DeployError, match="expected ros2://TOPIC"):
        parse_topic(uri)


def test_without_ros_the_error_says_what_to_source():
    try:
        import rclpy  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("ROS 2 is here")
    with pytest.raises(DeployError, match=r"needs ROS 2 .*source /opt/ros"):
        Ros2Sink("ros2://hands").start((8, 6), 10.0)


def test_events_are_strings_of_json(monkeypatch):
    nodes = fake_rclpy.install(monkeypatch)
    sink = Ros2Sink("ros2://hands/events")
    sink.start((8, 6), 10.0)
    sink.write(LOST)
    sink.close()
    sink.close()
    (publisher,) = nodes[0].publishers
    assert (publisher.topic, publisher.depth) == ("/hands/events", 10)
    assert json.loads(publisher.sent[0].data)["phase"] == "lost"
    assert not nodes[0].context.is_up


def test_commands_are_twists(monkeypatch):
    nodes = fake_rclpy.install(monkeypatch)
    sink = Ros2Sink("ros2://cmd_vel", is_command=True)
    sink.start((0, 0), 0.0)
    sink.write_command(Decision(Command("left", 0.1, 0.5), "gesture", "two", 1), is_change=True)
    (publisher,) = nodes[0].publishers
    twist = publisher.sent[0]
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.1, 0.0, 0.5)
    sink.close()


def test_ros_that_ends_under_the_sink_is_one_line(monkeypatch):
    nodes = fake_rclpy.install(monkeypatch)
    sink = Ros2Sink("ros2://hands")
    sink.start((8, 6), 10.0)
    nodes[0].context.is_up = False
    with pytest.raises(DeployError, match="cannot publish: publisher's context is invalid"):
        sink.write(LOST)
