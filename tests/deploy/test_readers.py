"""Several readers of a file give what one gives: pictures, order, times, end and errors."""

import logging
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from deploy import capture, source
from deploy.capture import Decoder, SourceKind
from deploy.channel import Channel
from deploy.core.errors import DeployError
from deploy.gstreamer import CameraOptions, Flip
from deploy.readers import Turns, auto_readers, parse_readers, pump
from deploy.source import READ_AHEAD, VideoSource, open_source, read_ahead
from tests.deploy.clips import write_clip, write_folder

COUNTS = [1, 2, 3, 5]
HANDS = [[("fist", 20 * n, 100)] for n in range(23)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", HANDS, fps=10)


def read_plain(uri, **options):
    """The frames of one reader on the calling thread, as before there were others."""
    with open_source(uri, **options) as opened:
        return list(opened.frames())


def read_by(uri, readers, *, prepare=None, lend=None, depth=None, **options):
    with open_source(uri, readers=readers, **options) as opened, read_ahead(
        opened, prepare=prepare, lend=lend, depth=depth
    ) as frames:
        assert opened.num_readers == readers
        return list(frames)


def assert_same(frames, expected):
    assert [frame.number for frame in frames] == [frame.number for frame in expected]
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in expected]
    for frame, other in zip(frames, expected):
        np.testing.assert_array_equal(frame.image, other.image)


@pytest.mark.parametrize(
    ("num_cores", "readers"), [(1, 1), (2, 1), (7, 1), (8, 2), (15, 2), (16, 2), (128, 2)]
)
def test_auto_by_cores(num_cores, readers):
    assert auto_readers(num_cores) == readers


def test_auto_asks_the_machine_and_a_number_does_not(monkeypatch):
    monkeypatch.setattr("deploy.readers.available_cpus", lambda: 12)
    assert parse_readers("auto") == 2
    assert parse_readers("7") == 7


@pytest.mark.parametrize("text", ["", "0", "-1", "2.0", "two", "AUTO"])
def test_number_of_readers_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=f"{text!r} readers, expected auto or a number from 1 on"):
        parse_readers(text)


@pytest.mark.parametrize("readers", COUNTS)
@pytest.mark.parametrize("num_frames", [1, 2, 4, 23])
def test_any_number_of_readers_gives_the_same_frames(tmp_path, readers, num_frames, caplog):
    path = write_clip(tmp_path / "clip.mp4", HANDS[:num_frames], fps=10)
    expected = read_plain(path)
    assert len(expected) == num_frames
    frames = read_by(path, readers)
    assert_same(frames, expected)
    assert all(frame.decode_ms > 0 for frame in frames)
    assert caplog.text == ""


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_depth_changes_nothing(clip, depth):
    assert_same(read_by(clip, 3, depth=depth), read_plain(clip))


def test_rate_and_flip_are_those_of_one_reader(clip):
    options = {"camera": CameraOptions(flip=Flip.CLOCKWISE), "fps": 25.0}
    frames = read_by(clip, 3, **options)
    assert_same(frames, read_plain(clip, **options))
    assert frames[1].time_s == 1 / 25
    assert frames[0].image.shape == (640, 384, 3)


def cut_clip(folder):
    """A video whose index names 23 frames, the last of which are not there."""
    path = Path(write_clip(folder / "cut.avi", HANDS, fps=10, fourcc="MJPG"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return str(path)


@pytest.mark.parametrize("readers", COUNTS)
def test_cut_video_ends_where_one_reader_ends_with_its_warning(tmp_path, readers, caplog):
    path = cut_clip(tmp_path)
    with caplog.at_level(logging.WARNING):
        expected = read_plain(path)
        (warning,) = caplog.messages
        assert f"ended after {len(expected)} of " in warning
        assert 1 < len(expected) < len(HANDS)
        caplog.clear()
        assert_same(read_by(path, readers), expected)
        assert caplog.messages == [warning]


@pytest.mark.parametrize("readers", [2, 3])
@pytest.mark.parametrize("content", [b"", b"not a video", bytes(2000)])
def test_file_that_is_no_video_is_one_line(tmp_path, readers, content):
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(DeployError, match=r"broken\.mp4.*ffmpeg"):
        read_by(str(tmp_path / "broken.mp4"), readers)


class FakeCapture:
    """A stand-in for cv2.VideoCapture of a file: frame n is full of n; counts what is open."""

    open_count = 0
    num_frames = 10
    bad_frame = -1  # is decoded, but cannot be converted
    fails_to_open = False
    failing_frame = -1  # raises when it is converted

    def __init__(self, uri):
        self._is_open = not (type(self).fails_to_open and type(self).open_count > 0)
        self._position = -1
        type(self).open_count += self._is_open

    def isOpened(self):
        return self._is_open

    def get(self, key):
        return 10.0 if key == source.cv2.CAP_PROP_FPS else float(self.num_frames)

    def grab(self):
        self._position += 1
        return self._position < self.num_frames

    def read(self, image=None):
        if not self.grab() or self._position == self.bad_frame:
            return False, None
        if self._position == self.failing_frame:
            raise RuntimeError(f"frame {self._position}")
        return True, np.full((4, 6, 3), self._position, np.uint8)

    def release(self):
        type(self).open_count -= self._is_open
        self._is_open = False


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A class of captures to set up, and the file that they seem to read."""

    class Fake(FakeCapture):
        pass

    monkeypatch.setattr(capture.cv2, "VideoCapture", Fake)
    (tmp_path / "fake.mp4").write_bytes(b"x")
    Fake.uri = str(tmp_path / "fake.mp4")
    return Fake


def values(frames):
    return [int(frame.image[0, 0, 0]) for frame in frames]


@pytest.mark.parametrize("readers", COUNTS)
def test_file_without_frames_is_one_line(fake, readers):
    fake.num_frames = 0
    with pytest.raises(DeployError, match="holds no frame that OpenCV"):
        read_by(fake.uri, readers)
    assert fake.open_count == 0


@pytest.mark.parametrize("readers", COUNTS)
def test_frame_that_cannot_be_converted_ends_the_file(fake, readers, caplog):
    fake.bad_frame = 4
    assert values(read_by(fake.uri, readers)) == [0, 1, 2, 3]
    assert caplog.messages == [f"{fake.uri}: ended after 4 of 10 frames"]


@pytest.mark.parametrize("readers", COUNTS)
def test_error_of_a_reader_is_raised_behind_the_frames_before_it(fake, readers):
    fake.failing_frame = 7
    seen = []
    with pytest.raises(RuntimeError, match="frame 7"), open_source(
        fake.uri, readers=readers
    ) as opened, read_ahead(opened) as frames:
        seen += frames_of(frames)
    assert seen == list(range(7))
    assert fake.open_count == 0


def frames_of(frames):
    for frame in frames:
        yield frame.number


@pytest.mark.parametrize("readers", COUNTS)
def test_error_of_prepare_is_raised_behind_the_frames_before_it(clip, readers):
    def prepare(frame):
        if frame.number == 5:
            raise DeployError("no memory")
        return frame

    seen = []
    with pytest.raises(DeployError, match="no memory"), open_source(
        clip, readers=readers
    ) as opened, read_ahead(opened, prepare=prepare) as frames:
        seen += frames_of(frames)
    assert seen == list(range(5))


@pytest.mark.parametrize("readers", COUNTS)
def test_file_that_opens_only_once_is_one_line_and_is_closed(fake, readers):
    fake.fails_to_open = True
    if readers == 1:
        assert len(read_by(fake.uri, readers)) == 10
    else:
        with pytest.raises(DeployError, match=r"cannot open it"):
            read_by(fake.uri, readers)
    assert fake.open_count == 0


@pytest.mark.parametrize("readers", COUNTS)
@pytest.mark.parametrize("taken", [0, 1, 6])
def test_leaving_early_ends_all_threads_and_closes_all_captures(fake, readers, taken):
    fake.num_frames = 10**9
    before = threading.active_count()
    started = time.perf_counter()
    with open_source(fake.uri, readers=readers) as opened:
        assert fake.open_count == readers
        with read_ahead(opened) as frames:
            assert [next(iter(frames)).number for _ in range(taken)] == list(range(taken))
            time.sleep(0.05)  # all readers wait by now
        assert threading.active_count() == before
    assert fake.open_count == 0
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize("readers", COUNTS)
def test_readers_stay_a_bounded_way_ahead(fake, readers):
    fake.num_frames = 10**9
    decoded = []

    def prepare(frame):
        decoded.append(frame.number)
        return frame

    with open_source(fake.uri, readers=readers) as opened, read_ahead(
        opened, prepare=prepare
    ) as frames:
        for taken in range(4):
            time.sleep(0.1)
            assert max(decoded, default=0) < taken + READ_AHEAD + readers
            assert next(iter(frames)).number == taken


@pytest.mark.parametrize("readers", [2, 3, 5])
def test_each_reader_prepares_its_own_frames(clip, readers):
    threads = {}

    def prepare(frame):
        threads[frame.number] = threading.get_ident()
        return frame._replace(resized=frame.image[::2, ::2])

    frames = read_by(clip, readers, prepare=prepare)
    assert all(frame.resized.base is frame.image for frame in frames)
    assert [threads[n] for n in range(23)] == [threads[n % readers] for n in range(23)]
    assert len(set(threads.values())) == readers


@pytest.mark.parametrize("readers", COUNTS)
def test_frames_are_decoded_into_lent_memory(clip, readers):
    lent, asked = [], threading.Lock()

    def lend(shape):
        room = np.full(shape, 77, np.uint8)
        with asked:
            lent.append(room)
        return room

    frames = read_by(clip, readers, lend=lend)
    assert_same(frames, read_plain(clip))
    # The first frame of a reader tells it the shape.
    rooms = {id(room) for room in lent}
    assert [id(frame.image) in rooms for frame in frames] == [n >= readers for n in range(23)]


@pytest.mark.parametrize("readers", COUNTS)
def test_few_pictures_are_lent_at_a_time(clip, readers):
    lent, most = [], []

    def lend(shape):
        most.append(sum(room() is not None for room in list(lent)))
        room = np.empty(shape, np.uint8)
        lent.append(weakref.ref(room))
        return room

    with open_source(clip, readers=readers) as opened, read_ahead(opened, lend=lend) as frames:
        for frame in frames:
            time.sleep(0.005)
            del frame
    assert len(lent) >= len(HANDS) - readers
    # Those that wait, one that is worked on, and one of each other reader.
    assert max(most) <= READ_AHEAD + 1 + readers - 1


@pytest.mark.parametrize("lend", [lambda shape: None, lambda shape: np.zeros((8, 8, 3), np.uint8)])
def test_memory_that_is_not_lent_or_does_not_fit_is_not_used(clip, lend):
    assert_same(read_by(clip, 3, lend=lend), read_plain(clip))


def test_reading_goes_on_where_the_readers_before_were(fake):
    fake.num_frames = 12
    with open_source(fake.uri, readers=3) as opened:
        with read_ahead(opened, depth=1) as frames:
            next(iter(frames))  # a few more are decoded, and lost
        with read_ahead(opened) as frames:
            again = list(frames)
    assert 0 < len(again) < 12
    assert values(again) == list(range(12))[-len(again) :]
    assert [frame.number for frame in again] == list(range(len(again)))


def test_other_sources_have_one_reader(tmp_path, monkeypatch, clip):
    folder = write_folder(tmp_path / "images", HANDS[:4])
    with open_source(folder, readers=3) as opened, read_ahead(opened) as frames:
        assert opened.num_readers == 1
        assert [frame.number for frame in frames] == [0, 1, 2, 3]
    live = VideoSource(clip, SourceKind.RTSP, readers=3)
    assert live.num_readers == 1
    live.close()
    monkeypatch.setattr(capture, "has_gstreamer", lambda: True)
    monkeypatch.setattr(capture, "has_jetson_decoder", lambda: True)
    assert not capture.takes_readers(clip, SourceKind.FILE, Decoder.AUTO)
    assert capture.takes_readers(clip, SourceKind.FILE, Decoder.OPENCV)


def test_turns_go_round_and_end_for_all():
    turns = Turns(3)
    order = []

    def act(index):
        while turns.wait(index) and turns.wait(index):
            order.append(index)
            if len(order) == 7:
                turns.end()
                return
            turns.pass_on()

    threads = [threading.Thread(target=act, args=(index,)) for index in (2, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert order == [0, 1, 2, 0, 1, 2, 0]
    assert turns.num_passed == 6
    assert not turns.wait(1)


def test_error_at_the_end_is_raised_behind_all_items():
    def fail(count):
        raise DeployError(f"{count} items")

    turns, channel = Turns(2), Channel(100)
    for index in (0, 1):
        share = iter(range(index, 5, 2))
        arguments, options = (share, index, turns, channel), {"prepare": None, "at_end": fail}
        threading.Thread(target=pump, args=arguments, kwargs=options).start()
    seen = []
    with pytest.raises(DeployError, match="5 items"):
        seen += (item for item in channel)
    assert seen == [0, 1, 2, 3, 4]
