"""Drawing and writing on a thread of its own: everything is written, errors come out."""

import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.latency import Latency
from deploy.pipeline import Hand
from deploy.present import draw_hands, presenting
from deploy.source import Frame
from tests.deploy.tiny_models import draw_frame

BOX = np.array([100, 100, 200, 200], np.float32)
HAND = Hand(1, BOX, None, 0.9, None, None)
FRAMES = [Frame(draw_frame([("fist", 10 * n, 100)]), n, n / 10, 0.0) for n in range(9)]


class RecordingSink:
    """Keeps what it is given; ends or fails at a frame."""

    def __init__(self, *, end_at=None, fail_at=None):
        self.calls = []
        self._end_at, self._fail_at = end_at, fail_at

    def start(self, image_wh, fps):
        self.calls.append(("start", image_wh, fps))

    def write(self, image, number):
        if number == self._fail_at:
            raise DeployError("disk full")
        self.calls.append(number)
        return number != self._end_at

    def close(self):
        self.calls.append("close")


def test_every_frame_is_written_before_the_block_ends():
    sink, latency = RecordingSink(), Latency()
    with presenting([sink], 10.0, latency) as show:
        assert all(show(frame, [HAND]) for frame in FRAMES)
    assert sink.calls == [("start", (640, 384), 10.0)] + list(range(9)) + ["close"]
    assert latency.summary()["draw"]["samples"] == 9


def test_sink_that_ends_stops_the_show():
    sink = RecordingSink(end_at=2)
    with presenting([sink], 10.0, Latency()) as show:
        answers = [show(frame, []) for frame in FRAMES * 3]
    assert not answers[-1]
    assert sink.calls[1:] == [0, 1, 2, "close"]


def test_error_of_a_sink_comes_out_and_all_sinks_are_closed():
    sinks = [RecordingSink(), RecordingSink(fail_at=1)]
    with pytest.raises(DeployError, match="disk full"), presenting(sinks, 10.0, Latency()) as show:
        list(show(frame, []) for frame in FRAMES * 3)
    assert [sink.calls[-1] for sink in sinks] == ["close", "close"]


def test_nothing_shown_opens_nothing():
    sink = RecordingSink()
    with presenting([sink], 10.0, Latency()):
        pass
    assert sink.calls == []


def test_without_sinks_nothing_is_drawn():
    latency = Latency()
    with presenting([], 10.0, latency) as show:
        assert show(FRAMES[0], [HAND])
    assert latency.summary() == {}


def test_hands_are_drawn_on_a_copy_and_gestures_in_another_colour():
    image = FRAMES[0].image
    kept = image.copy()
    plain = draw_hands(image, [HAND])
    told = draw_hands(image, [HAND._replace(gesture="fist", gesture_confidence=0.9)])
    np.testing.assert_array_equal(image, kept)
    assert (plain != kept).any()
    assert (plain[150, 100] != told[150, 100]).any()
    np.testing.assert_array_equal(draw_hands(image, []), kept)
