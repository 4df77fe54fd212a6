"""Sources and sinks as URIs, and the groups of deepstream-app that they become.

| source | becomes |
|---|---|
| csi://0, /dev/video0 | camera of that number |
| rtsp://host/path, http(s)://... | network stream |
| clip.mp4, file:///clip.mp4 | file |

| sink | becomes |
|---|---|
| fake, window, overlay (to 6.0), drm (from 6.1) | nothing, the screen |
| out.mp4, out.mkv | H.264 file |
| rtsp://:8554 | RTSP server on that port |
"""

import re
from pathlib import Path
from typing import List, NamedTuple, Tuple

from deploy.core.errors import DeployError
from deploy.deepstream.versions import DeepStream

Pairs = List[Tuple[str, object]]

LAST_OVERLAY = (6, 0)
CONTAINERS = {".mp4": 1, ".mkv": 2}
VIDEO_BIT_RATE = 4000000
UDP_PORT = 5400
CAMERA_WH = (1280, 720)
CAMERA_HZ = 30


class Source(NamedTuple):
    """A source's group, and whether it is live."""

    group: Pairs
    is_live: bool
    uri: str


def refuse_blanks(name: str, value: str) -> str:
    """Return the value, or raise DeployError when it has blanks: no tool here quotes them."""
    if re.search(r"\s", value):
        raise DeployError(
            f"{name} {value!r} has a blank, which DeepStream's files and commands cannot quote; "
            "rename it, or link to it from a path without blanks"
        )
    return value


def parse_source(uri: str) -> Source:
    """Return the [source0] of a URI. Raises DeployError for one that is unknown."""
    refuse_blanks("source", uri)
    camera = re.match(r"(?:csi://|/dev/video)(\d+)$", uri)
    if camera:
        return Source(_camera(uri, int(camera.group(1))), True, uri)
    if uri.startswith("rtsp://"):
        reconnect: Pairs = [("latency", 200), ("rtsp-reconnect-interval-sec", 10)]
        group: Pairs = [("enable", 1), ("type", 4), ("uri", uri)]
        return Source(group + reconnect, True, uri)
    if "://" in uri and not uri.startswith(("file://", "http://", "https://")):
        raise DeployError(
            f"source {uri} is not supported; expected csi://N, /dev/videoN, rtsp://..., "
            "http(s)://... or a video file"
        )
    full = uri if "://" in uri else Path(uri).absolute().as_uri()
    file_group: Pairs = [("enable", 1), ("type", 3), ("uri", full), ("num-sources", 1)]
    return Source(file_group, False, full)


def sink_group(uri: str, release: DeepStream) -> Pairs:
    """Return the [sinkN] of a URI; raise DeployError for one that the release does not have."""
    refuse_blanks("sink", uri)
    sync: Pairs = [("sync", 0), ("source-id", 0)]
    simple = {"fake": 1, "window": 2}
    has_overlay = release.number <= LAST_OVERLAY
    simple["overlay" if has_overlay else "drm"] = 5
    if uri in simple:
        return [("enable", 1), ("type", simple[uri])] + sync
    suffix = Path(uri).suffix.lower()
    encoder: Pairs = [("codec", 1), ("enc-type", 0), ("bitrate", VIDEO_BIT_RATE)]
    if suffix in CONTAINERS and "://" not in uri:
        output: Pairs = [("container", CONTAINERS[suffix]), ("output-file", uri)]
        return [("enable", 1), ("type", 3)] + output + encoder + sync
    port = re.match(r"rtsp://:(\d+)$", uri)
    if port:
        ports: Pairs = [("rtsp-port", int(port.group(1))), ("udp-port", UDP_PORT)]
        return [("enable", 1), ("type", 4)] + ports + encoder + sync
    known = ", ".join(sorted(simple))
    raise DeployError(
        f"DeepStream {release.version} has no sink {uri!r}; known: {known}, NAME.mp4, NAME.mkv, "
        "rtsp://:PORT"
    )


def _camera(uri: str, number: int) -> Pairs:
    is_csi = uri.startswith("csi://")
    node = "camera-csi-sensor-id" if is_csi else "camera-v4l2-dev-node"
    return [
        ("enable", 1),
        ("type", 5 if is_csi else 1),
        ("camera-width", CAMERA_WH[0]),
        ("camera-height", CAMERA_WH[1]),
        ("camera-fps-n", CAMERA_HZ),
        ("camera-fps-d", 1),
        (node, number),
    ]
