"""A fake of ROS 2's Python client, for where ROS cannot be installed from a package index.

Written from docs.ros2.org (rclpy: init, create_node, Node.create_publisher, Publisher.publish,
shutdown) and from the message definitions std_msgs/String and geometry_msgs/Twist. It holds what
the sink relies on: an own context, no signal handlers, nodes that are destroyed before shutdown.
"""

import sys
import types


class Context:
    def __init__(self):
        self.is_up = False


class Publisher:
    def __init__(self, node, kind, topic, depth):
        self.kind, self.topic, self.depth = kind, topic, depth
        self._node = node
        self.sent = []

    def publish(self, message):
        if not isinstance(message, self.kind):
            raise TypeError("message of another type")
        if self._node.is_destroyed or not self._node.context.is_up:
            raise RuntimeError("publisher's context is invalid")
        self.sent.append(message)


class Node:
    def __init__(self, name, context):
        if not context.is_up:
            raise RuntimeError("rclpy.init() has not been called")
        self.name, self.context, self.is_destroyed = name, context, False
        self.publishers = []

    def create_publisher(self, kind, topic, qos_profile):
        self.publishers.append(Publisher(self, kind, topic, qos_profile))
        return self.publishers[-1]

    def destroy_node(self):
        self.is_destroyed = True


class String:
    def __init__(self):
        self.data = ""


class Vector3:
    def __init__(self):
        self.x = self.y = self.z = 0.0


class Twist:
    def __init__(self):
        self.linear, self.angular = Vector3(), Vector3()


def install(monkeypatch):
    """Put the fake where imports find it; return the list that nodes are added to."""
    nodes = []

    def init(*, args=None, context=None):
        context.is_up = True

    def create_node(node_name, *, context=None):
        nodes.append(Node(node_name, context))
        return nodes[-1]

    def shutdown(*, context=None):
        assert all(node.is_destroyed for node in nodes if node.context is context)
        context.is_up = False

    modules = {
        "rclpy": {"init": init, "create_node": create_node, "shutdown": shutdown},
        "rclpy.context": {"Context": Context},
        "std_msgs": {},
        "std_msgs.msg": {"String": String},
        "geometry_msgs": {},
        "geometry_msgs.msg": {"Twist": Twist},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return nodes
