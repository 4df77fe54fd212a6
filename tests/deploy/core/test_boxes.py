import numpy as np
import pytest

from deploy.core.boxes import (
    as_xyxy,
    box_area,
    box_iou,
    clip_boxes,
    few_ious,
    no_detections,
    scale_boxes,
    take_detections,
)


def random_boxes(seed, count, size=100.0):
    rng = np.random.RandomState(seed)
    corners = rng.uniform(-0.2 * size, 1.2 * size, (count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10, 20, 30, 40], [10, 20, 30, 40]),
        ([-5, -5, 30, 40], [0, 0, 30, 40]),
        ([90, 40, 120, 60], [90, 40, 100, 50]),
        ([-20, -20, -10, -10], [0, 0, 0, 0]),
        ([120, 70, 130, 80], [100, 50, 100, 50]),
        ([30, 40, 10, 20], [30, 40, 30, 40]),
        ([0, 0, 100, 50], [0, 0, 100, 50]),
    ],
)
def test_clip_table(box, expected):
    clipped = clip_boxes(as_xyxy([box]), (100, 50))
    assert clipped.dtype == np.float32
    assert clipped.tolist() == [expected]


def test_clip_is_idempotent_inside_and_leaves_its_argument_alone():
    boxes = random_boxes(0, 200)
    before = boxes.copy()
    once = clip_boxes(boxes, (80, 60))
    assert np.array_equal(clip_boxes(once, (80, 60)), once)
    assert np.array_equal(boxes, before)
    assert once.min() >= 0
    assert (once[:, 2] <= 80).all()
    assert (once[:, 3] <= 60).all()
    assert (once[:, 2:] >= once[:, :2]).all()


@pytest.mark.parametrize("function", [lambda b: clip_boxes(b, (9, 9)), box_area])
def test_no_boxes_give_no_rows(function):
    assert len(function(as_xyxy([]))) == 0


def test_as_xyxy_refuses_three_columns():
    with pytest.raises(ValueError, match=r"\(1, 3\); expected \(N, 4\)"):
        as_xyxy([[1, 2, 3]])


@pytest.mark.parametrize(
    ("box", "area"), [([0, 0, 2, 3], 6), ([5, 5, 5, 9], 0), ([4, 4, 2, 2], 0), ([-1, -1, 1, 1], 4)]
)
def test_area_table(box, area):
    assert box_area(as_xyxy([box])).tolist() == [area]


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),  # touching
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0),
        ([0, 0, 10, 10], [0, 5, 10, 15], 50 / 150),
        ([0, 0, 10, 10], [2, 2, 7, 7], 0.25),  # inside
        ([3, 3, 3, 3], [3, 3, 3, 3], 0.0),  # no area
    ],
)
def test_iou_table(a, b, iou):
    assert box_iou(as_xyxy([a]), as_xyxy([b]))[0, 0] == pytest.approx(iou, abs=1e-6)


def test_iou_is_symmetric_bounded_and_one_with_itself():
    a, b = random_boxes(1, 40), random_boxes(2, 30)
    iou = box_iou(a, b)
    assert iou.shape == (40, 30)
    assert np.allclose(iou, box_iou(b, a).T, atol=1e-6)
    assert iou.min() >= 0
    assert iou.max() <= 1
    assert np.allclose(np.diag(box_iou(a, a)), 1.0, atol=1e-5)


def test_iou_does_not_change_with_shift_or_scale():
    a, b = random_boxes(3, 20), random_boxes(4, 20)
    assert np.allclose(box_iou(a, b), box_iou(a * 4 + 7, b * 4 + 7), atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_iou_of_nothing_has_the_right_shape(shape):
    assert box_iou(random_boxes(0, shape[0]), random_boxes(1, shape[1])).shape == shape


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (12, 9)])
@pytest.mark.parametrize("is_coarse", [False, True])  # coarse: many equal, touching and empty ones
def test_few_ious_are_those_of_the_arrays(shape, is_coarse):
    a, b = (random_boxes(seed, count).astype(np.float64) for seed, count in zip((6, 7), shape))
    if is_coarse:
        a, b = np.round(a / 40) * 40, np.round(b / 40) * 40
    few = few_ious(a.tolist(), b.tolist())
    assert few == box_iou(a, b).tolist()


def test_few_ious_of_inverted_boxes_and_of_nan_are_0():
    boxes = [[0.0, 0.0, 10.0, 10.0], [8.0, 2.0, 2.0, 8.0], [2.0, 8.0, 8.0, 2.0]]
    for corner in range(4):
        boxes.append([0.0, 0.0, 10.0, 10.0])
        boxes[-1][corner] = float("nan")
    assert few_ious(boxes, boxes) == [[1.0] + [0.0] * 6] + [[0.0] * 7] * 6


def test_denominator_eps_counts_for_tiny_boxes():
    tiny = np.array([[0, 0, 0.001, 0.001]])
    assert box_iou(tiny, tiny, denominator_eps=1e-6)[0, 0] == pytest.approx(0.5)


def test_scale_there_and_back_is_the_same():
    boxes = random_boxes(5, 50)
    there = scale_boxes(boxes, (1280, 720), (320, 192))
    assert np.allclose(there[:, 0], boxes[:, 0] / 4)
    assert np.allclose(scale_boxes(there, (320, 192), (1280, 720)), boxes, atol=1e-3)


def test_take_detections_selects_every_field():
    empty = no_detections()
    assert (empty.xyxy.shape, empty.confidence.shape, empty.class_id.shape) == ((0, 4), (0,), (0,))
    assert take_detections(empty, np.zeros(0, dtype=bool)).xyxy.shape == (0, 4)
