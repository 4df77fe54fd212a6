"""The pipeline finds the same whether an engine takes frames or tensors."""

import numpy as np

from deploy.feed import feed
from deploy.latency import Latency
from deploy.pipeline import classify_hands, detect_hands
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

IMAGE = draw_frame([("fist", 64, 64), ("ok", 384, 192)])


class TakesFrames:
    """An engine that makes its input of a frame itself, by way of another."""

    takes_frames = True

    def __init__(self, engine):
        self.model = engine.model
        self._engine = engine
        self._waits = []

    def put_frame(self, image, regions=None):
        self._waits.append(feed(self._engine, image, regions))

    def run_frame(self):
        return self._waits.pop(0)()


def test_pipelines_steps_find_the_same_either_way():
    found = []
    for wrap in (lambda engine: engine, TakesFrames):
        latency = Latency()
        hands = detect_hands(wrap(numpy_detector()), IMAGE, latency)
        _, rows = classify_hands(wrap(numpy_classifier()), IMAGE, hands.xyxy, latency)
        found.append((hands.xyxy, rows))
        assert set(latency.summary()) == {"preprocess", "detect", "cluster", "crop", "classify"}
    assert len(found[0][0]) == 2
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)
