"""Frames and regions as tensors, for an engine that takes no frames."""

import numpy as np

from deploy.feed import feed
from tests.deploy.tiny_models import draw_frame, numpy_classifier, numpy_detector

IMAGE = draw_frame([("fist", 64, 64), ("ok", 384, 192)])
REGIONS = np.array([[64, 64, 192, 192], [384, 192, 512, 320]], np.float32)


def test_whole_frame_is_one_input_and_each_region_another():
    detector, classifier = numpy_detector(), numpy_classifier()
    assert feed(detector, IMAGE)()["output_cov/Sigmoid"].shape == (1, 1, 6, 10)
    assert feed(classifier, IMAGE, REGIONS)()["activation_18"].shape == (2, 6)
    assert (detector.batch_sizes, classifier.batch_sizes) == ([1], [2])
