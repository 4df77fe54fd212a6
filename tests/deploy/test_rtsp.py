"""A real network camera (GStreamer's RTSP server on loopback) that stalls, dies and is back."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from unittest import mock

import cv2
import pytest

from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.pipeline import Pipeline
from deploy.running import SOURCE_DEADLINE_S, run_source
from deploy.sink import Sinks
from deploy.source import open_source, quiet_opencv
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

SCRIPT = Path(__file__).with_name("rtsp_server.py")
# Debian's Python: GStreamer's bindings are no package of the index.
PYTHON = "/usr/bin/python3"


def has_server():
    if not Path(PYTHON).exists():
        return False
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert all(map(Gst.ElementFactory.find, ('x264enc', 'rtph264pay', 'pngdec')))"
    )
    return subprocess.call([PYTHON, "-c", code], stderr=subprocess.DEVNULL) == 0


class Camera:
    """The server's process."""

    def __init__(self, picture):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"rtsp://127.0.0.1:{self.port}/hand"
        self._picture = str(picture)

    def start(self):
        self._process = subprocess.Popen(
            [PYTHON, str(SCRIPT), str(self.port), self._picture],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout.readline() == b"ready\n"

    def signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def camera(tmp_path, monkeypatch):
    if not has_server():
        pytest.skip("needs GStreamer's RTSP server: make system-packages")
    quiet_opencv()
    # FFmpeg asks for UDP first; over TCP nothing of a picture is lost on a busy machine.
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    monkeypatch.setattr("deploy.source.BACKOFF_S", (0.1, 0.2))
    monkeypatch.setattr("deploy.capture.READ_TIMEOUT_MS", 1000)
    picture = tmp_path / "frame.png"
    assert cv2.imwrite(str(picture), draw_frame([("fist", 192, 128)]))
    camera = Camera(picture)
    camera.start()
    yield camera
    camera.kill()


class Story:
    """An event sink that keeps phases with their times and tells when one comes."""

    uri = "story"

    def __init__(self):
        self.told = []
        self._changed = threading.Condition()

    def start(self, image_wh, fps):
        self.image_wh = image_wh

    def write(self, event):
        with self._changed:
            if event.phase is not Phase.HOLD:
                self.told.append((event.phase, time.monotonic()))
            self._changed.notify_all()

    def close(self):
        """Nothing is open."""

    def wait(self, num, timeout_s=20.0):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= num, timeout_s), self.told


class Ender:
    """A picture sink that ends the run when told."""

    uri = "ender"
    is_over = False

    def start(self, image_wh, fps):
        """Nothing to open."""

    def write(self, image, index):
        return not self.is_over

    def close(self):
        """Nothing is open."""


def run_until_told(source, pipeline, sinks):
    """run_source, on a thread: signals belong to the main thread and are left alone."""
    with mock.patch("signal.signal"):
        run_source(source, pipeline, sinks)


@pytest.mark.parametrize("fault", ["stall", "death"])
def test_camera_that_stalls_or_dies_loses_the_hand_in_time_and_comes_back(camera, fault):
    health, story = Health(), Story()
    pipeline = Pipeline(numpy_detector(), numpy_classifier(), health=health)
    with open_source(camera.uri, health=health) as source:
        assert source.is_live
        ender = Ender()
        runner = threading.Thread(
            target=run_until_told, args=(source, pipeline, Sinks([story], [ender])), daemon=True
        )
        runner.start()
        story.wait(1)
        began_s = time.monotonic()
        if fault == "stall":
            camera.signal(signal.SIGSTOP)
        else:
            camera.kill()
        story.wait(2)
        # Frames that the network still held come first; 0.5 s of slack for a busy machine.
        assert story.told[1][1] - began_s < SOURCE_DEADLINE_S + 1.0
        deadline_s = time.monotonic() + 10
        while "source" not in health.snapshot().ongoing:
            assert time.monotonic() < deadline_s, "the fault was not said"
            time.sleep(0.05)
        if fault == "stall":
            camera.signal(signal.SIGCONT)
        else:
            camera.start()
        story.wait(3)
        ender.is_over = True
        runner.join(10)
        assert not runner.is_alive()
    assert [phase for phase, _ in story.told[:3]] == [Phase.BEGIN, Phase.LOST, Phase.BEGIN]
    assert story.image_wh == (640, 384)
    assert health.snapshot().faults["source"] >= 1
