"""What a run survives: a camera that stalls, networks that give NaN, sinks that fail."""

import errno
import time
from collections import namedtuple

import numpy as np
import pytest

from deploy.core.commands import Command, CommandRule
from deploy.core.errors import DeployError
from deploy.core.smoother import Phase
from deploy.health import Health
from deploy.latency import Latency
from deploy.pipeline import Pipeline
from deploy.running import SOURCE_DEADLINE_S, run_source
from deploy.sink import Sinks, VideoSink
from deploy.source import Frame
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

RATE = 20.0
FIST = [("fist", 192, 128)]


class LiveSource:
    """Frames at their times; pauses: seconds of silence before a frame, by its number."""

    is_live = True
    uri = "camera"
    fps = RATE

    def __init__(self, images, pauses=()):
        self._images = images
        self._pauses = dict(pauses)

    def frames(self):
        for number, image in enumerate(self._images):
            time.sleep(self._pauses.get(number, 1 / RATE))
            now = time.perf_counter()
            yield Frame(image, number, now, now)

    def stop(self):
        """Nothing waits."""


class Events:
    """A sink that keeps what it gets, with the time; fails at the given event."""

    uri = "kept"

    def __init__(self, fail_at=None):
        self.events = []
        self.times = []
        self.is_closed = False
        self._fail_at = fail_at

    def start(self, image_wh, fps):
        self.started_s = time.perf_counter()

    def write(self, event):
        if len(self.events) == self._fail_at:
            raise DeployError("kept cannot be written: " + errno.errorcode[errno.ENOSPC])
        self.events.append(event)
        self.times.append(time.perf_counter())

    def close(self):
        self.is_closed = True


def run(source, sinks, pictures=(), detector=None, classifier=None):
    health = Health()
    pipeline = Pipeline(
        detector or numpy_detector(), classifier or numpy_classifier(), health=health
    )
    try:
        run_source(source, pipeline, Sinks(sinks, pictures), health=health)
    finally:
        pipeline.finish()
    return health.snapshot()


def phases(sink):
    return [event.phase for event in sink.events if event.phase is not Phase.HOLD]


def test_stalled_camera_loses_the_hand_within_the_deadline_and_comes_back():
    sink = Events()
    pause_s = 3 * SOURCE_DEADLINE_S
    source = LiveSource([draw_frame(FIST)] * 20, {10: pause_s})
    run(source, [sink])
    assert phases(sink) == [Phase.BEGIN, Phase.LOST, Phase.BEGIN, Phase.LOST]
    lost_s = sink.times[[event.phase for event in sink.events].index(Phase.LOST)]
    # Frame 9 comes about half a second after the start; 0.3 s of slack for a busy machine.
    assert lost_s - sink.started_s < 9 / RATE + SOURCE_DEADLINE_S + 0.3
    assert sink.events[-1].track == 2


class NanEngine:
    """Gives NaN for the calls whose numbers are in `bad`."""

    def __init__(self, engine, bad):
        self.model = engine.model
        self._engine = engine
        self._bad = set(bad)
        self._calls = 0

    def infer(self, batch):
        outputs = self._engine.infer(batch)
        self._calls += 1
        if self._calls - 1 in self._bad:
            return {name: np.full_like(value, np.nan) for name, value in outputs.items()}
        return outputs


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_nan_from_a_network_is_left_out_said_once_and_counted(kind, caplog):
    sink = Events()
    engines = {"detector": numpy_detector(), "classifier": numpy_classifier()}
    engines[kind] = NanEngine(engines[kind], [6, 8])
    seen = run(LiveSource([draw_frame(FIST)] * 14), [sink], **engines)
    assert phases(sink) == [Phase.BEGIN, Phase.LOST]
    assert seen.frames == 14
    # The detector has two maps, both are NaN.
    assert seen.faults == {"model_nan": 4 if kind == "detector" else 2}
    assert caplog.text.count("NaN") == 1


def test_sink_that_fails_is_left_and_the_others_get_everything():
    bad, good = Events(fail_at=0), Events()
    with pytest.raises(DeployError, match="ENOSPC"):
        run(LiveSource([draw_frame(FIST)] * 8), [bad, good])
    assert bad.is_closed
    assert phases(good) == [Phase.BEGIN, Phase.LOST]


@pytest.mark.parametrize("fault", ["size", "disk"])
def test_video_that_cannot_go_on_does_not_end_the_events(tmp_path, monkeypatch, fault):
    images = [draw_frame(FIST)] * 16
    if fault == "size":
        images[3] = draw_frame(FIST, wh=(1280, 768))
    else:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**30, 2**30, 2**20))
    sink = Events()
    video = VideoSink(str(tmp_path / "out.mp4"))
    with pytest.raises(DeployError, match="write to FOLDER" if fault == "size" else "1 MB are"):
        run(LiveSource(images), [sink], [video])
    assert phases(sink)[0] is Phase.BEGIN
    assert phases(sink)[-1] is Phase.LOST
    assert sink.events[-1].frame == 15


class HangingEngine:
    """Takes seconds for the calls whose numbers are in `hangs`."""

    def __init__(self, engine, hangs):
        self.model = engine.model
        self._engine = engine
        self._hangs = dict(hangs)
        self._calls = 0

    def infer(self, batch):
        time.sleep(self._hangs.get(self._calls, 0))
        self._calls += 1
        return self._engine.infer(batch)


def test_network_that_hangs_loses_the_hand_within_the_deadline_and_begins_anew():
    sink = Events()
    detector = HangingEngine(numpy_detector(), {8: 3 * SOURCE_DEADLINE_S})
    seen = run(LiveSource([draw_frame(FIST)] * 60), [sink], detector=detector)
    assert phases(sink) == [Phase.BEGIN, Phase.LOST, Phase.BEGIN, Phase.LOST]
    lost_s = sink.times[[event.phase for event in sink.events].index(Phase.LOST)]
    # Frame 8 comes 0.4 s after the first; 0.3 s of slack for a busy machine.
    assert lost_s - sink.started_s < 9 / RATE + SOURCE_DEADLINE_S + 0.3
    assert seen.faults["slow"] == 1
    assert seen.ongoing == set()


def test_robot_is_stopped_while_the_network_hangs():
    class Robot(Events):
        def write_command(self, decision, *, is_change):
            if is_change:
                self.events.append((decision.command.name, decision.reason))

    robot = Robot()
    rule = CommandRule({"fist": Command("go", 0.1)}, Command("stop"), deadline_s=5.0)
    detector = HangingEngine(numpy_detector(), {8: 3 * SOURCE_DEADLINE_S})
    health = Health()
    pipeline = Pipeline(detector, numpy_classifier(), health=health)
    source = LiveSource([draw_frame(FIST)] * 12)
    run_source(source, pipeline, Sinks([], [], [robot]), rule=rule, health=health)
    assert robot.events[:3] == [("stop", "start"), ("go", "gesture"), ("stop", "lost")]
    assert robot.events[-1] == ("stop", "exit")


def test_slow_network_on_a_fast_camera_stays_within_two_frames_and_its_own_time():
    took_s = 0.1
    detector = HangingEngine(numpy_detector(), {call: took_s for call in range(100)})
    latency = Latency()
    pipeline = Pipeline(detector, latency=latency)
    source = LiveSource([draw_frame(FIST)] * 60)
    totals = run_source(source, pipeline, Sinks([], []))
    assert totals.dropped >= 20
    assert totals.frames + totals.dropped == 60
    # 20 ms of slack for a busy machine.
    assert latency.summary()["total"]["p50_ms"] < 1e3 * (2 / RATE + took_s) + 20


def test_last_sink_that_fails_while_the_network_hangs_ends_the_run_in_order():
    sink = Events(fail_at=1)  # the lost that the watchdog tells
    detector = HangingEngine(numpy_detector(), {8: 3 * SOURCE_DEADLINE_S})
    with pytest.raises(DeployError, match="ENOSPC"):
        run(LiveSource([draw_frame(FIST)] * 60), [sink], detector=detector)
    assert phases(sink) == [Phase.BEGIN]
    assert sink.is_closed
