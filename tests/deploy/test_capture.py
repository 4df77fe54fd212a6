"""GStreamer pipelines by table, cameras' options, and who decodes."""

import cv2
import numpy as np
import pytest

from deploy import capture, gstreamer
from deploy.capture import Decoder, SourceKind, open_capture, source_kind
from deploy.core.errors import DeployError
from deploy.gstreamer import (
    CameraOptions,
    Flip,
    csi_pipeline,
    file_pipeline,
    flip_image,
    has_gstreamer,
    parse_size,
    rtsp_pipeline,
)
from deploy.source import open_source
from tests.deploy.clips import write_clip

BGR = "video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR"
LIVE = "appsink drop=true max-buffers=1 sync=false"


def test_csi_camera_is_read_turned_and_limited_by_the_device():
    options = CameraOptions((1920, 1080), 29.97, Flip.ROTATE_180)
    assert csi_pipeline(1, options) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1920, height=1080, "
        f"format=NV12, framerate=29970/1000 ! nvvidconv flip-method=2 ! {BGR} ! {LIVE}"
    )


def test_csi_camera_has_defaults():
    text = csi_pipeline(0, CameraOptions())
    assert "width=1280, height=720" in text
    assert "framerate=30000/1000" in text
    assert "flip-method=0" in text


def test_network_camera_and_file_are_decoded_by_the_device():
    assert rtsp_pipeline("rtsp://cam/1") == (
        'rtspsrc location="rtsp://cam/1" latency=200 drop-on-latency=true ! decodebin ! nvvidconv '
        f"! {BGR} ! {LIVE}"
    )
    assert file_pipeline("a b.mp4") == (
        f'filesrc location="a b.mp4" ! decodebin ! nvvidconv ! {BGR} ! appsink sync=false'
    )


@pytest.mark.parametrize("uri", ['a" ! filesink location=x', "a\\b", "a\nb"])
def test_name_cannot_add_elements_to_a_pipeline(uri):
    for make in (rtsp_pipeline, file_pipeline):
        with pytest.raises(DeployError, match="cannot be in a source"):
            make(uri)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("csi://0", SourceKind.CSI),
        ("gst:videotestsrc ! appsink", SourceKind.GSTREAMER),
        ("7", SourceKind.CAMERA),
    ],
)
def test_kinds_of_live_sources(uri, kind):
    assert source_kind(uri) is kind
    assert kind in capture.LIVE


@pytest.mark.parametrize("uri", ["csi://0", "gst:videotestsrc ! appsink"])
def test_without_gstreamer_the_error_says_what_to_take(uri, monkeypatch):
    monkeypatch.setattr(gstreamer, "has_gstreamer", lambda: False)
    with pytest.raises(DeployError, match=r"system-site-packages"), open_source(uri):
        pass


def test_jetson_decoder_is_taken_where_it_is_and_asked_for_by_name(monkeypatch, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", [[("fist", 64, 64)]] * 3)
    opened = []
    monkeypatch.setattr(capture, "has_gstreamer", lambda: True)
    monkeypatch.setattr(gstreamer, "has_gstreamer", lambda: True)
    monkeypatch.setattr(capture, "has_jetson_decoder", lambda: True)
    real = cv2.VideoCapture

    def spy(*arguments):
        opened.append(arguments)
        return real(clip)

    monkeypatch.setattr(cv2, "VideoCapture", spy)
    for decoder in (Decoder.AUTO, Decoder.JETSON, Decoder.OPENCV):
        open_capture(clip, SourceKind.FILE, CameraOptions(), decoder)
    pipeline = (file_pipeline(clip), cv2.CAP_GSTREAMER)
    assert opened == [pipeline, pipeline, (clip,)]


class FakeCamera:
    """A stand-in for cv2.VideoCapture of a camera that only gives 640x480."""

    def __init__(self, index):
        self.settings = {}

    def isOpened(self):
        return True

    def set(self, key, value):
        self.settings[key] = value

    def get(self, key):
        return {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}[key]


def test_camera_is_asked_for_size_and_rate_and_says_what_it_gives(monkeypatch, caplog):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    options = CameraOptions((1280, 720), 60.0, Flip.HORIZONTAL)
    opened = open_capture("0", SourceKind.CAMERA, options)
    settings = opened.capture.settings
    assert settings[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert settings[cv2.CAP_PROP_FPS] == 60
    assert list(settings).index(cv2.CAP_PROP_FOURCC) < list(settings).index(
        cv2.CAP_PROP_FRAME_WIDTH
    )
    assert opened.flip is Flip.HORIZONTAL
    assert "gives 640x480, not 1280x720" in caplog.text


CORNERS = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=2)


@pytest.mark.parametrize(
    ("flip", "corners"),
    [
        (Flip.NONE, [0, 1, 2, 3]),
        (Flip.HORIZONTAL, [1, 0, 3, 2]),
        (Flip.VERTICAL, [2, 3, 0, 1]),
        (Flip.ROTATE_180, [3, 2, 1, 0]),
        (Flip.CLOCKWISE, [2, 0, 3, 1]),
        (Flip.COUNTERCLOCKWISE, [1, 3, 0, 2]),
    ],
)
def test_pictures_are_turned(flip, corners):
    assert flip_image(CORNERS, flip)[..., 0].ravel().tolist() == corners


def test_file_is_turned_too(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", [[("fist", 64, 64)]] * 3)
    with open_source(clip, camera=CameraOptions(flip=Flip.CLOCKWISE)) as source:
        frame = next(iter(source.frames()))
    assert frame.image.shape == (640, 384, 3)


@pytest.mark.parametrize("text", ["", "1280", "1280x", "0x720", "1280x720x3", "-1x5"])
def test_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT"):
        parse_size(text)


def test_size_is_read():
    assert parse_size("1280x720") == (1280, 720)


def test_pipeline_runs_where_opencv_has_gstreamer():
    if not has_gstreamer():
        pytest.skip("this OpenCV has no GStreamer")
    uri = f"gst:videotestsrc num-buffers=5 ! video/x-raw,width=64,height=48 ! {BGR} ! appsink"
    with open_source(uri) as source:
        frame = next(iter(source.frames()))
    assert frame.image.shape == (48, 64, 3)
