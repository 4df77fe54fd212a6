"""Sources by URI: kinds by table, frames in order, times that do not depend on the clock."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deploy.capture import SourceKind, camera_index, source_kind
from deploy.core.errors import DeployError
from deploy.health import Health
from deploy.source import VideoSource, open_source, read_ahead
from tests.deploy.clips import write_clip, write_folder

HANDS = [[("fist", 40 * n, 100)] for n in range(7)]


@pytest.mark.parametrize(
    ("uri", "index"),
    [
        ("0", 0),
        ("12", 12),
        ("/dev/video3", 3),
        ("/dev/video", None),
        ("clip.mp4", None),
        ("", None),
        ("-1", None),
        ("0.mp4", None),
    ],
)
def test_camera_index_by_table(uri, index):
    assert camera_index(uri) == index


def test_kind_by_what_is_there(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert source_kind(str(tmp_path)) is SourceKind.FOLDER
    assert source_kind(str(tmp_path / "clip.mp4")) is SourceKind.FILE
    assert source_kind("/dev/video0") is SourceKind.CAMERA
    assert source_kind("rtsp://camera/1") is SourceKind.RTSP


@pytest.mark.parametrize("uri", ["csi://x", "http://host/x.mp4", "not/there.mp4", ""])
def test_unknown_source_names_the_known_ones(uri):
    if uri == "":
        uri = "no such file"
    with pytest.raises(DeployError, match=r"expected a video file.*camera.*rtsp") as caught:
        source_kind(uri)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_video_gives_its_frames_with_times_from_its_rate(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", HANDS, fps=10)
    with open_source(clip) as source:
        assert not source.is_live
        assert source.fps == pytest.approx(10)
        frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(7) / 10)
    assert frames[0].image.shape == (384, 640, 3)
    assert frames[0].image.dtype == np.uint8


def test_folder_gives_its_images_by_name_and_leaves_other_files_out(tmp_path):
    folder = write_folder(tmp_path / "images", HANDS)
    (tmp_path / "images" / "notes.txt").write_text("x")
    with open_source(folder, fps=5) as source:
        frames = list(source.frames())
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(7) / 5)
    red = [int(np.nonzero(frame.image[100, :, 2] > 200)[0][0]) for frame in frames]
    assert red == [40 * n for n in range(7)]


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_reading_ahead_changes_nothing_for_files(tmp_path, ahead):
    folder = write_folder(tmp_path / "images", HANDS)
    with open_source(folder) as source, read_ahead(source, depth=ahead) as frames:
        assert [frame.number for frame in frames] == list(range(7))
        assert frames.dropped == 0


def test_leaving_early_stops_the_reading_thread(tmp_path):
    before = threading.active_count()
    folder = write_folder(tmp_path / "images", HANDS)
    with open_source(folder) as source, read_ahead(source, depth=1) as frames:
        assert next(iter(frames)).number == 0
    assert threading.active_count() == before


class LiveSource:
    """Ten frames as fast as they are taken, like a camera that does not wait."""

    is_live = True

    def stop(self):
        """Nothing waits."""

    def __init__(self):
        self.is_done = threading.Event()

    def frames(self):
        yield from range(10)
        self.is_done.set()


def test_live_source_drops_its_oldest_frames_when_nobody_reads():
    source = LiveSource()
    with read_ahead(source, depth=2) as frames:
        assert source.is_done.wait(5)
        time.sleep(0.01)
        assert list(frames) == [8, 9]
        assert frames.dropped == 8


@pytest.mark.parametrize("content", [b"", b"not a video", bytes(2000)])
def test_file_that_is_no_video_is_one_line(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(DeployError, match=r"broken\.mp4.*ffmpeg") as caught, open_source(
        str(path)
    ) as source:
        list(source.frames())
    assert "\n" not in str(caught.value)


def test_video_that_is_cut_off_is_one_line(tmp_path):
    clip = Path(write_clip(tmp_path / "clip.mp4", HANDS))
    clip.write_bytes(clip.read_bytes()[:3000])
    with pytest.raises(DeployError, match=r"clip\.mp4"), open_source(str(clip)) as source:
        list(source.frames())


def test_folder_without_images_is_one_line(tmp_path):
    with pytest.raises(DeployError, match="holds no image"), open_source(str(tmp_path)):
        pass


def test_unreadable_image_is_named(tmp_path):
    folder = write_folder(tmp_path / "images", HANDS)
    (tmp_path / "images" / "003.png").write_bytes(b"not an image")
    with open_source(folder) as source:
        frames = source.frames()
        assert [next(frames).number for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DeployError, match=r"003\.png"):
            next(frames)


def test_camera_that_is_not_there_is_one_line():
    with pytest.raises(DeployError, match=r"/dev/video97.*ls /dev/video"), open_source(
        "/dev/video97"
    ):
        pass


def test_live_source_that_ends_is_opened_again_and_numbers_go_on(tmp_path, monkeypatch, caplog):
    # A file opened as if it were a stream: it ends, and gives the same frames when opened again.
    monkeypatch.setattr("deploy.source.BACKOFF_S", (0.01, 0.02))
    clip = write_clip(tmp_path / "clip.mp4", HANDS, fps=10)
    health = Health()
    source = VideoSource(clip, SourceKind.RTSP, health=health)
    frames = [frame for frame, _ in zip(source.frames(), range(10))]
    source.close()
    assert [frame.number for frame in frames] == list(range(10))
    assert [frame.time_s for frame in frames] == sorted(frame.time_s for frame in frames)
    assert health.snapshot().faults == {"source": 1}
    assert health.snapshot().ongoing == set()
    assert caplog.text.count("no frames; is it connected?") == 1


def test_source_that_stays_away_stops_at_once_when_told(tmp_path, monkeypatch):
    clip = Path(write_clip(tmp_path / "clip.mp4", HANDS, fps=10))
    source = VideoSource(str(clip), SourceKind.RTSP)
    with read_ahead(source) as frames:
        next(iter(frames))
        clip.unlink()
        time.sleep(0.3)
        started = time.perf_counter()
    source.close()
    assert time.perf_counter() - started < 1.0


def test_video_is_decoded_into_lent_memory(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", HANDS)
    lent = []

    def lend(shape):
        lent.append(np.full(shape, 77, np.uint8))
        return lent[-1]

    with open_source(clip) as source:
        plain = list(source.frames())
    with open_source(clip) as source:
        frames = list(source.frames(lend))
    assert [frame.number for frame in frames] == [frame.number for frame in plain]
    for frame, expected in zip(frames, plain):
        np.testing.assert_array_equal(frame.image, expected.image)
    assert all(frame.image is room for frame, room in zip(frames[1:], lent))


@pytest.mark.parametrize("lend", [lambda shape: None, lambda shape: np.zeros((8, 8, 3), np.uint8)])
def test_memory_that_is_not_lent_or_does_not_fit_is_not_used(tmp_path, lend):
    clip = write_clip(tmp_path / "clip.mp4", HANDS)
    with open_source(clip) as source:
        plain = list(source.frames())
    with open_source(clip) as source, read_ahead(source, lend=lend) as frames:
        for frame, expected in zip(frames, plain):
            np.testing.assert_array_equal(frame.image, expected.image)
