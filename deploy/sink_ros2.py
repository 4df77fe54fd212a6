"""Events and commands to ROS 2: ros2://TOPIC, for example ros2://hands/events.

As --sink, events are std_msgs/String with the event's JSON; as --command-sink, commands are
geometry_msgs/Twist (ros2://cmd_vel). Reliable, the last DEPTH are kept for slow readers. Needs a
sourced ROS 2 (Foxy or later): `source /opt/ros/humble/setup.bash`.
"""

import re
from typing import Any, Optional, Tuple

from deploy.core.commands import Decision
from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent, format_event
from deploy.health import Health

SCHEME = "ros2://"
NODE = "hand_gestures"
DEPTH = 10
# docs.ros.org, "Topic and service names": tokens of letters, digits and _ that begin with none.
TOPIC = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$")


def parse_topic(uri: str) -> str:
    """Return the topic of a URI, with its slash. Raises DeployError for one that is none."""
    topic = uri[len(SCHEME) :].strip("/") if uri.startswith(SCHEME) else ""
    if not TOPIC.match(topic):
        raise DeployError(f"sink {uri}: expected ros2://TOPIC, letters, digits, _ and /")
    return f"/{topic}"


class Ros2Sink:
    """A node with one publisher, of events or of commands."""

    def __init__(
        self, uri: str, health: Optional[Health] = None, *, is_command: bool = False
    ) -> None:
        """Raises DeployError for a URI that is none."""
        self.uri = uri
        self.health = health or Health()
        self._topic = parse_topic(uri)
        self._is_command = is_command
        self._context: Any = None
        self._node: Any = None
        self._publisher: Any = None
        self._message: Any = None

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        """Make the node. Raises DeployError where ROS 2 is not there."""
        try:
            import rclpy
            from rclpy.context import Context

            if self._is_command:
                from geometry_msgs.msg import Twist as Message
            else:
                from std_msgs.msg import String as Message
        except ImportError as error:
            raise DeployError(
                f"sink {self.uri} needs ROS 2 ({error}); run: source /opt/ros/DISTRO/setup.bash, "
                "with this very Python"
            ) from None
        self._message = Message
        # A context of its own: the default one takes over SIGINT, which ends the run in order.
        self._context = Context()
        rclpy.init(context=self._context)
        suffix = "_commands" if self._is_command else "_events"
        self._node = rclpy.create_node(NODE + suffix, context=self._context)
        self._publisher = self._node.create_publisher(Message, self._topic, DEPTH)

    def write(self, event: GestureEvent) -> None:
        """Publish an event."""
        message = self._message()
        message.data = format_event(event)
        self._publish(message)

    def write_command(self, decision: Decision, *, is_change: bool) -> None:
        """Publish a velocity."""
        message = self._message()
        message.linear.x = decision.command.linear
        message.angular.z = decision.command.angular
        self._publish(message)

    def close(self) -> None:
        """Leave ROS."""
        if self._node is not None:
            import rclpy

            self._node.destroy_node()
            rclpy.shutdown(context=self._context)
            self._node = None

    def _publish(self, message: Any) -> None:
        try:
            self._publisher.publish(message)
        except Exception as error:  # rclpy raises RCLError and others, by version
            raise DeployError(f"sink {self.uri} cannot publish: {error}") from None
