"""The probes over stand-ins for both bindings, against the runtime's own pipeline."""

import numpy as np
import pytest

from deploy.core.events import to_document
from deploy.core.roi import RoiRule
from deploy.core.smoother import Phase
from deploy.deepstream.margin import Margin
from deploy.deepstream.probes import Probes, PydsMeta, ServiceMakerMeta
from deploy.pipeline import Pipeline
from deploy.source import Frame
from tests.deploy import tiny_models
from tests.deploy.deepstream import metadata
from tests.deploy.deepstream.metadata import Hand

WH = (640, 384)
HZ = 10
MODEL = tiny_models.classifier_info()
CLIP = MODEL._replace(roi=RoiRule(border="clip"))
BINDINGS = {
    "pyds": (PydsMeta(metadata.FakePyds), metadata.pyds_batch),
    "pyservicemaker": (ServiceMakerMeta(np.asarray), metadata.maker_batch),
}


@pytest.fixture(params=sorted(BINDINGS))
def binding(request):
    return BINDINGS[request.param]


def make(binding, events, *, model=MODEL):
    margin = Margin(model, source="clip.mp4", image_wh=WH)
    return Probes(margin, model, binding[0], events.append, is_live=False)


def step(probes, binding, number, hands, classify):
    """One frame: detector -> expand -> classifier -> restore; returns the classified regions."""
    pts_ns = int(number * 1e9 / HZ)
    probes.expand(binding[1](number, pts_ns, hands))
    regions = [hand.rect_params.xyxy for hand in hands]
    for hand, region in zip(hands, regions):
        hand.output = classify(region)
    probes.restore(binding[1](number, pts_ns, hands))
    return regions


def one_hot(index):
    return lambda region: np.eye(len(MODEL.classes))[index]


def random_boxes(seed, num=20):
    rng = np.random.RandomState(seed)
    low = rng.uniform((0, 0), (WH[0] - 60, WH[1] - 60), (num, 2))
    return np.concatenate([low, low + rng.uniform(20, 60, (num, 2))], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_regions_contain_their_boxes_inside_the_frame_and_boxes_come_back(binding, seed):
    boxes = random_boxes(seed)
    hands = [Hand(box) for box in boxes]
    regions = np.array(step(make(binding, []), binding, 0, hands, one_hot(1)))
    assert (regions[:, :2] >= -1e-3).all()
    assert (regions[:, 2:] <= np.array(WH) + 1e-3).all()
    assert (regions[:, :2] <= boxes[:, :2] + 1e-3).all()
    assert (regions[:, 2:] >= boxes[:, 2:] - 1e-3).all()
    assert (regions[:, 2:] - regions[:, :2] > boxes[:, 2:] - boxes[:, :2]).any()
    restored = np.array([hand.rect_params.xyxy for hand in hands])
    np.testing.assert_allclose(restored, boxes, atol=1e-3)


def test_regions_mirror_with_the_frame(binding):
    boxes = random_boxes(7)
    flipped = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [WH[0], 0, WH[0], 0]
    here = step(make(binding, []), binding, 0, [Hand(box) for box in boxes], one_hot(1))
    there = step(make(binding, []), binding, 0, [Hand(box) for box in flipped], one_hot(1))
    mirrored = np.array(there)[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [WH[0], 0, WH[0], 0]
    np.testing.assert_allclose(here, mirrored, atol=1e-2)


def test_other_components_and_classes_are_left_alone(binding):
    box = [100, 100, 200, 200]
    others = [Hand(box, component=4), Hand(box, class_id=1)]
    regions = step(make(binding, []), binding, 0, others, one_hot(1))
    assert regions == [box, box]
    assert [hand.object_id for hand in others] == [metadata.UNTRACKED] * 2


def test_a_hand_keeps_its_track_and_its_gesture_begins_and_is_lost(binding):
    events = []
    probes = make(binding, events)
    tracks = set()
    for number in range(5):
        hand = Hand([100 + 5 * number, 100, 200 + 5 * number, 200])
        step(probes, binding, number, [hand], one_hot(1))
        tracks.add(hand.object_id)
    for number in range(5, 12):
        step(probes, binding, number, [], one_hot(1))
    assert tracks == {1}
    assert [event.phase for event in events] == [Phase.BEGIN, Phase.LOST]
    assert events[0].gesture == "fist"


def test_finish_closes_an_open_gesture(binding):
    events = []
    probes = make(binding, events)
    for number in range(5):
        step(probes, binding, number, [Hand([100, 100, 200, 200])], one_hot(3))
    probes.finish()
    assert [event.phase for event in events] == [Phase.BEGIN, Phase.LOST]


def test_frames_without_a_result_of_the_classifier_change_nothing(binding):
    events = []
    probes = make(binding, events)
    for number in range(8):
        step(probes, binding, number, [Hand([100, 100, 200, 200])], lambda region: None)
    assert events == []


def test_events_are_those_of_deploy_run(binding):
    """The same hands, regions and probabilities give the same events as the pipeline's."""
    events, expected = [], []
    probes = make(binding, events, model=CLIP)
    classifier = tiny_models.NumpyEngine(CLIP, tiny_models.classify)
    pipeline = Pipeline(tiny_models.numpy_detector(), classifier, source="clip.mp4")
    for number in range(14):
        gesture = "fist" if number < 7 else "stop"
        image = tiny_models.draw_frame([(gesture, 160 + 4 * number, 128)])
        classifier.batch_sizes.clear()
        result = pipeline.process(Frame(image, number, number / HZ, 0.0))
        expected += result.events
        hands = [Hand(hand.xyxy) for hand in result.hands]
        step(probes, binding, number, hands, seen_in(image))
    expected += pipeline.finish()
    probes.finish()
    assert len(events) > 3
    assert [comparable(event) for event in events] == [comparable(event) for event in expected]


def seen_in(image):
    """What the tiny classifier says of a region of an image, cut as the pipeline cuts it."""
    from deploy.core.preprocess import images_to_batch
    from deploy.core.roi import crop_regions

    def classify(region):
        crops = crop_regions(image, np.array([region]), size_wh=CLIP.input_wh)
        options = CLIP.preprocess._asdict()
        batch = images_to_batch(list(crops), input_wh=CLIP.input_wh, **options)
        return tiny_models.classify(batch)["activation_18"][0]

    return classify


def comparable(event):
    document = to_document(event)
    document.pop("latency_ms")
    for name in ("box", "roi"):
        if document[name] is not None:
            document[name] = [round(edge, 1) for edge in document[name]]
    return document
