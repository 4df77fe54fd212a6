"""Sinks by URI, what they write, and that nothing is touched before the first frame."""

import json

import cv2
import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.core.events import lost_event
from deploy.sink import EventSink, FolderSink, VideoSink, WindowSink, make_sinks
from tests.deploy.clips import count_frames
from tests.deploy.tiny_models import draw_frame

EVENT = lost_event(time=0.5, source="x", frame=1, track=2, image_wh=(64, 48), latency_ms=1.0)


def test_kinds_by_uri():
    sinks = make_sinks(["a.mp4", "e.jsonl", "-", "b.AVI", "c.webm", "frames/", "pics", "window"])
    assert [type(sink) for sink in sinks.events] == [EventSink, EventSink]
    kinds = [VideoSink, VideoSink, VideoSink, FolderSink, FolderSink, WindowSink]
    assert [type(sink) for sink in sinks.pictures] == kinds


@pytest.mark.parametrize("uri", ["out.gif", "events.txt", "x.mkv"])
def test_unknown_sink_names_the_known_ones(uri):
    with pytest.raises(DeployError, match=r"expected NAME\.mp4.*\.jsonl.*window"):
        make_sinks([uri])


def test_same_sink_twice_is_refused():
    with pytest.raises(DeployError, match="twice"):
        make_sinks(["a.mp4", "b.mp4", "a.mp4"])


def test_making_sinks_touches_nothing(tmp_path):
    kept = tmp_path / "events.jsonl"
    kept.write_text("earlier\n")
    sinks = make_sinks([str(kept), str(tmp_path / "out.mp4"), str(tmp_path / "frames/")])
    for sink in [*sinks.events, *sinks.pictures]:
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
    assert kept.read_text() == "earlier\n"


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.webm"])
def test_video_holds_every_frame(tmp_path, name):
    sink = VideoSink(str(tmp_path / name))
    sink.start((640, 384), 10.0)
    for index in range(6):
        assert sink.write(draw_frame([("fist", 60 * index, 100)]), index)
    sink.close()
    assert count_frames(tmp_path / name) == (6, (640, 384))


def test_frame_of_another_size_is_refused(tmp_path):
    sink = VideoSink(str(tmp_path / "out.mp4"))
    sink.start((640, 384), 10.0)
    with pytest.raises(DeployError, match=r"\(640, 384\), frame 4 is \(320, 192\)"):
        sink.write(np.zeros((192, 320, 3), np.uint8), 4)
    sink.close()


def test_folder_holds_numbered_pictures(tmp_path):
    sink = FolderSink(str(tmp_path / "deep" / "frames"))
    sink.start((640, 384), 10.0)
    for index in (0, 7):
        assert sink.write(draw_frame([]), index)
    sink.close()
    names = sorted(path.name for path in (tmp_path / "deep" / "frames").iterdir())
    assert names == ["frame_000000.jpg", "frame_000007.jpg"]
    assert cv2.imread(str(tmp_path / "deep" / "frames" / names[0])).shape == (384, 640, 3)


def test_events_are_lines_written_at_once(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("earlier\n")
    sink = EventSink(str(path))
    sink.start((64, 48), 10.0)
    sink.write(EVENT)
    sink.write(EVENT)
    lines = path.read_text().splitlines()
    sink.close()
    assert [json.loads(line)["track"] for line in lines] == [2, 2]


def test_events_on_standard_output(capsys):
    sink = EventSink("-")
    sink.start((64, 48), 10.0)
    sink.write(EVENT)
    sink.close()
    assert json.loads(capsys.readouterr().out)["phase"] == "lost"
    print("still open")


@pytest.mark.parametrize("name", ["no/such/folder/out.mp4", "no/such/folder/events.jsonl"])
def test_place_that_cannot_be_written_is_one_line(tmp_path, name):
    sinks = make_sinks([str(tmp_path / name)])
    (sink,) = [*sinks.events, *sinks.pictures]
    with pytest.raises(DeployError, match="cannot be written") as caught:
        sink.start((640, 384), 10.0)
    sink.close()
    assert "\n" not in str(caught.value)


def test_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "frames").write_text("x")
    with pytest.raises(DeployError, match="cannot be made"):
        FolderSink(str(tmp_path / "frames")).start((640, 384), 10.0)


def test_window_without_a_screen_is_one_line(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    sink = WindowSink("window")
    with pytest.raises(DeployError, match="screen"):
        sink.start((640, 384), 10.0)
    sink.close()
