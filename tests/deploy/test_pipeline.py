"""The pipeline on drawn frames, with engines in plain NumPy: hands, tracks, gestures, events."""

import collections
import weakref

import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.core.smoother import Phase
from deploy.feed import feed
from deploy.pipeline import Pipeline, is_finite
from deploy.source import Frame
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

RATE = 10.0


def frames_of(hands_per_frame):
    return [
        Frame(draw_frame(hands), index, index / RATE, 0.0)
        for index, hands in enumerate(hands_per_frame)
    ]


def run(hands_per_frame, classifier=True):
    pipeline = Pipeline(
        numpy_detector(), numpy_classifier() if classifier else None, source="drawn"
    )
    results = [pipeline.process(frame) for frame in frames_of(hands_per_frame)]
    events = [event for result in results for event in result.events]
    return results, events + pipeline.finish()


def story(events):
    return [(event.frame, event.phase.value, event.gesture) for event in events]


def test_hand_is_found_where_it_is_drawn():
    results, _ = run([[("fist", 192, 128)]])
    (hand,) = results[0].hands
    # 32 network pixels about the cells' centre, four times larger in the picture; cells at the
    # hand's border shift the mean by less than a quarter of a cell.
    np.testing.assert_allclose(hand.xyxy, [192, 128, 320, 256], atol=16)
    assert hand.track == 1
    assert hand.gesture is None


def test_empty_frames_have_no_hands_and_no_events():
    results, events = run([[]] * 5)
    assert [result.hands for result in results] == [[]] * 5
    assert events == []


def test_gesture_begins_holds_and_ends_with_lost_at_the_end_of_the_source():
    _, events = run([[("fist", 192, 128)]] * 9)
    assert story(events) == [(2, "begin", "fist"), (7, "hold", "fist"), (8, "lost", None)]
    begin, _, lost = events
    assert begin.time == pytest.approx(0.2)
    assert (begin.source, begin.track, begin.image_wh) == ("drawn", 1, (640, 384))
    assert 0.6 <= begin.confidence <= 1
    assert (lost.box, lost.roi, lost.confidence) == (None, None, None)


def test_region_is_wider_than_the_box_and_about_the_same_centre():
    _, events = run([[("fist", 192, 128)]] * 3)
    box, roi = np.array(events[0].box), np.array(events[0].roi)
    np.testing.assert_allclose(box[:2] + box[2:], roi[:2] + roi[2:], atol=1e-3)
    assert (roi[:2] < box[:2]).all()
    assert (roi[2:] > box[2:]).all()


def test_another_gesture_ends_the_first():
    _, events = run([[("fist", 192, 128)]] * 4 + [[("stop", 192, 128)]] * 4)
    told = story(events)
    assert told[0] == (2, "begin", "fist")
    assert [entry[1:] for entry in told[1:3]] == [("end", "fist"), ("begin", "stop")]
    assert told[1][0] == told[2][0]


def test_one_frame_of_another_gesture_or_without_the_hand_sends_nothing():
    steady = [[("fist", 192, 128)]] * 4
    for flicker in ([("ok", 192, 128)], [], [("random", 192, 128)]):
        _, events = run(steady + [flicker] + steady)
        assert [event.phase for event in events if event.phase is not Phase.HOLD] == [
            Phase.BEGIN,
            Phase.LOST,
        ]


def test_random_never_begins_an_event():
    results, events = run([[("random", 192, 128)]] * 12)
    assert len(results[-1].hands) == 1
    assert events == []


def test_hand_that_leaves_is_lost_after_the_gap():
    _, events = run([[("fist", 192, 128)]] * 4 + [[]] * 8)
    assert story(events) == [(2, "begin", "fist"), (9, "lost", None)]


def test_all_hands_of_a_frame_are_one_batch_and_keep_their_gestures():
    classifier = numpy_classifier()
    pipeline = Pipeline(numpy_detector(), classifier)
    hands = [("fist", 64, 64), ("ok", 384, 192)]
    for frame in frames_of([hands] * 3):
        result = pipeline.process(frame)
    assert classifier.batch_sizes == [2, 2, 2]
    by_place = sorted(result.hands, key=lambda hand: hand.xyxy[0])
    assert [hand.gesture for hand in by_place] == ["fist", "ok"]
    assert sorted(event.gesture for event in result.events) == ["fist", "ok"]


def test_without_a_classifier_there_are_tracked_hands_and_no_events():
    results, events = run([[("fist", 192, 128)]] * 6, classifier=False)
    assert [hand.track for result in results for hand in result.hands] == [1] * 6
    assert results[-1].hands[0].roi is None
    assert events == []


def test_every_step_is_timed():
    pipeline = Pipeline(numpy_detector(), numpy_classifier())
    for frame in frames_of([[("fist", 192, 128)]] * 3):
        pipeline.process(frame)
    summary = pipeline.latency.summary()
    names = ("decode", "preprocess", "detect", "cluster", "track", "crop", "classify", "total")
    assert sorted(summary) == sorted(names)
    assert all(step["samples"] == 3 for step in summary.values())


def test_nothing_writes_into_the_frame():
    frame = frames_of([[("fist", 192, 128)]])[0]
    kept = frame.image.copy()
    Pipeline(numpy_detector(), numpy_classifier()).process(frame)
    np.testing.assert_array_equal(frame.image, kept)


def test_model_of_the_wrong_kind_is_refused():
    with pytest.raises(DeployError, match="is a classifier, expected a detector"):
        Pipeline(numpy_classifier())
    with pytest.raises(DeployError, match="is a detector, expected a classifier"):
        Pipeline(numpy_detector(), numpy_detector())


def test_end_before_the_first_frame_has_nothing_to_close():
    assert Pipeline(numpy_detector(), numpy_classifier()).finish() == []


def test_each_hand_is_classified_in_every_third_frame_when_asked():
    classifier = numpy_classifier()
    pipeline = Pipeline(numpy_detector(), classifier, classify_every=3)
    hands = [("fist", 64, 64), ("ok", 384, 192)]
    events = [
        event for frame in frames_of([hands] * 12) for event in pipeline.process(frame).events
    ]
    assert sum(classifier.batch_sizes) == 2 * 12 / 3
    assert {event.gesture for event in events if event.phase is Phase.BEGIN} == {"fist", "ok"}
    assert all(event.roi is not None for event in events)


def test_frame_that_was_resized_ahead_gives_the_same():
    frames = frames_of([[("fist", 192, 128)]] * 4)
    pipeline = Pipeline(numpy_detector(), numpy_classifier())
    ahead = [pipeline.prepare(frame) for frame in frames]
    assert ahead[0].resized.shape == (96, 160, 3)
    stories = []
    for given in (frames, ahead):
        pipeline = Pipeline(numpy_detector(), numpy_classifier())
        results = [pipeline.process(frame) for frame in given]
        stories.append([(hand.xyxy.tolist(), hand.gesture) for r in results for hand in r.hands])
    assert stories[0] == stories[1]
    assert len(stories[0]) == 4


class Ahead:
    """A NumPy engine in a GPU's place: it takes whole frames, two at a time, and keeps a diary."""

    takes_frames = True

    def __init__(self, engine):
        self.engine, self.model, self.diary = engine, engine.model, []
        self._waiting = collections.deque()

    def lend_image(self, shape):
        return np.empty(shape, np.uint8)

    def upload(self, image):
        self.diary.append("upload")
        return image.copy()

    def put_frame(self, image, regions=None):
        assert len(self._waiting) < 2
        self.diary.append("put")
        self._waiting.append((image, regions))

    def run_frame(self):
        self.diary.append("run")
        return feed(self.engine, *self._waiting.popleft())()


def told(results, last):
    hands = [[h._replace(xyxy=h.xyxy.tolist(), roi=None) for h in r.hands] for r in results]
    events = [event for result in results for event in result.events] + last
    return hands, [event._replace(latency_ms=0) for event in events]


def run_ahead(frames, script, *, is_live):
    """Process frames; script tells for each look ahead whether the next frame is there already."""
    pipeline = Pipeline(Ahead(numpy_detector()), Ahead(numpy_classifier()), source="drawn")
    script = iter(script)
    results = []
    for index, frame in enumerate(frames):

        def upcoming(following=frames[index + 1 : index + 2]):
            return following[0] if following and next(script) else None

        results.append(pipeline.process(frame, upcoming, is_live=is_live))
    return told(results, pipeline.finish())


def moving_hands(seed):
    random = np.random.RandomState(seed)
    gestures = ["fist", "ok", "stop", "random"]
    story = []
    for _ in range(4):
        gesture, x = gestures[random.randint(4)], int(random.randint(0, 300))
        story += [[(gesture, x + 8 * n, 64)] if random.rand() > 0.2 else [] for n in range(5)]
    return frames_of(story)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("is_live", [False, True])
def test_looking_ahead_changes_no_hand_and_no_event(seed, is_live):
    frames = moving_hands(seed)
    pipeline = Pipeline(numpy_detector(), numpy_classifier(), source="drawn")
    plain = told([pipeline.process(frame) for frame in frames], pipeline.finish())
    assert any(plain[0])
    for share in (0.0, 0.5, 1.0):
        script = np.random.RandomState(seed).rand(100) < share
        assert run_ahead(frames, script, is_live=is_live) == plain


def test_file_is_looked_ahead_before_the_wait_and_a_camera_after_it():
    frames = frames_of([[("fist", 192, 128)]] * 2)
    for is_live, diary in ((False, ["put", "put", "run"]), (True, ["put", "run", "put"])):
        detector = Ahead(numpy_detector())
        Pipeline(detector).process(frames[0], lambda: frames[1], is_live=is_live)
        assert detector.diary == diary


def test_frame_that_was_started_in_vain_is_let_go():
    frames = frames_of([[("fist", 64, 64)], [("fist", 384, 64)], [("fist", 72, 64)]])
    pipeline = Pipeline(Ahead(numpy_detector()))
    pipeline.process(frames[0], lambda: frames[1], is_live=False)
    (hand,) = pipeline.process(frames[2]).hands
    assert (hand.track, hand.xyxy[0] < 192) == (1, True)


def test_engine_on_the_cpu_is_not_asked_for_the_next_frame():
    pipeline = Pipeline(numpy_detector())
    pipeline.process(frames_of([[]])[0], lambda: pytest.fail("asked"), is_live=False)
    assert pipeline.lend_image is None


def test_engine_that_takes_frames_gets_them_uploaded_and_none_resized():
    detector = Ahead(numpy_detector())
    pipeline = Pipeline(detector)
    frame = frames_of([[]])[0]
    prepared = pipeline.prepare(frame)
    assert detector.diary == ["upload"]
    assert prepared.resized is None
    assert prepared.image is not frame.image
    assert pipeline.lend_image((4, 6, 3)).shape == (4, 6, 3)


def test_end_lets_go_of_a_frame_that_was_started_and_of_every_picture():
    frames = frames_of([[("fist", 192, 128)]] * 2)
    detector = Ahead(numpy_detector())
    pipeline = Pipeline(detector)
    pipeline.process(frames[0], frames[1:].pop, is_live=False)
    held = [weakref.ref(frame.image) for frame in frames]
    pipeline.finish()
    assert detector.diary == ["put", "put", "run", "run"]
    frames.clear()
    assert [reference() for reference in held] == [None, None]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.0, True), (3e38, True), (-3e38, True), (1e-45, True)]
    + [(value, False) for value in (np.nan, np.inf, -np.inf)],
)
@pytest.mark.parametrize("shape", [(6,), (2, 5), (1, 4, 34, 60), (1, 4, 68, 120)])
def test_one_value_that_is_not_finite_is_found_and_a_large_one_is_none(shape, value, expected):
    values = np.ones(shape, np.float32)
    for place in (0, values.size // 2, values.size - 1):
        values.reshape(-1)[:] = 1
        values.reshape(-1)[place] = value
        assert is_finite(values) is expected
        assert is_finite(np.asfortranarray(values)) is expected
    assert is_finite(values[:0])


@pytest.mark.filterwarnings("error")
def test_infinities_of_both_signs_do_not_cancel():
    assert not is_finite(np.array([[np.inf, -np.inf, 1.0]], np.float32))
