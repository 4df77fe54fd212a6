"""Clips around gestures: which frames are in them, and how many stay."""

import os

import cv2
import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.core.events import GestureEvent
from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.recording import Recorder
from tests.deploy.clips import count_frames

FPS = 10.0
WH = (256, 48)


def event(frame, phase="begin", gesture="ok", track=1):
    return GestureEvent(
        frame / FPS, "", frame, track, gesture, 0.9, Phase(phase), None, None, WH, 0.0
    )


def picture(index, wh=WH):
    """A frame with a white bar whose place tells its number."""
    image = np.zeros((wh[1], wh[0], 3), np.uint8)
    image[:, 4 * index : 4 * index + 4] = 255
    return image


def numbers(path):
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        is_read, image = capture.read()
        if not is_read:
            return found
        bars = image.mean(axis=(0, 2)).reshape(-1, 4).mean(axis=1)
        found.append(int(bars.argmax()))


def record(folder, beginnings, num_frames, **options):
    recorder = Recorder(str(folder), seconds=0.5, **options)
    recorder.start(WH, FPS)
    for index in range(num_frames):
        if index in beginnings:
            recorder.note(event(index))
        assert recorder.write(picture(index), index)
    recorder.close()
    return sorted(folder.glob("*.mp4"))


@pytest.mark.parametrize(
    ("beginnings", "expected"),
    [
        ([], []),
        # Five frames before, the frame itself, five after.
        ([10], [list(range(5, 16))]),
        # At the start there is less before, at the end less after.
        ([2], [list(range(0, 8))]),
        ([38], [list(range(33, 40))]),
        # One that begins within another's clip makes that longer.
        ([10, 13], [list(range(5, 19))]),
        ([10, 30], [list(range(5, 16)), list(range(25, 36))]),
    ],
)
def test_clip_holds_the_frames_around_the_beginning(tmp_path, beginnings, expected):
    clips = record(tmp_path / "clips", beginnings, 40)
    assert [numbers(clip) for clip in clips] == expected


def test_other_phases_record_nothing(tmp_path):
    recorder = Recorder(str(tmp_path / "clips"), seconds=0.5)
    recorder.start(WH, FPS)
    for index, phase in enumerate(("hold", "end", "lost")):
        recorder.note(event(index, phase))
        recorder.write(picture(index), index)
    recorder.close()
    assert list((tmp_path / "clips").iterdir()) == []


def test_name_has_time_gesture_and_track(tmp_path):
    (clip,) = record(tmp_path / "clips", [10], 20)
    assert clip.name == "1.000_ok_1.mp4"


def test_only_the_newest_clips_stay_earlier_runs_included(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    earlier = folder / "0.000_fist_1.mp4"
    earlier.write_bytes(b"earlier")
    os.utime(str(earlier), (1, 1))
    clips = record(folder, [10, 25, 38], 50, keep=2)
    assert [clip.name[:5] for clip in clips] == ["2.500", "3.800"]


def test_frames_of_another_size_end_the_clip_and_others_can_begin(tmp_path):
    recorder = Recorder(str(tmp_path / "clips"), seconds=0.5)
    recorder.start(WH, FPS)
    for index in range(30):
        wh = WH if index < 12 else (320, 64)
        if index in (10, 20):
            recorder.note(event(index))
        recorder.write(picture(index, wh), index)
    recorder.close()
    clips = sorted((tmp_path / "clips").glob("*.mp4"))
    assert [numbers(clip) for clip in clips] == [list(range(5, 12)), list(range(15, 26))]
    assert count_frames(clips[1]) == (11, (320, 64))


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeployError, match="record .* cannot be made"):
        Recorder(str(tmp_path / "file" / "clips"), health=Health()).start(WH, FPS)
