import math

import numpy as np
import pytest

from deploy.core.boxes import Detections, as_xyxy, box_iou, no_detections
from deploy.core.cluster import (
    MAX_CELLS,
    NOISE,
    Postprocess,
    check_postprocess,
    cluster_detections,
    dbscan,
    postprocess_maps,
    suppress,
)
from deploy.core.grid import Grid

DBSCAN = Postprocess("dbscan", 0.005, 0.3, 1.0, 0.5, "sum", 0.9, 0.0)
NMS = Postprocess("nms", 0.05, 0.3, 1.0, 0.5, "max", 0.5, 0.0)


def cells_of(boxes, confidence, class_id=None):
    kinds = np.zeros(len(boxes), np.int64) if class_id is None else np.asarray(class_id, np.int64)
    return Detections(as_xyxy(boxes), np.asarray(confidence, np.float32), kinds)


def random_cells(seed, count):
    rng = np.random.RandomState(seed)
    centre = rng.uniform(20, 300, (max(count // 6, 1), 2))[
        rng.randint(0, max(count // 6, 1), count)
    ]
    half = rng.uniform(14, 22, (count, 2))
    centre = centre + rng.normal(0, 2, (count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    return cells_of(boxes, rng.randint(1, 17, count) / 16.0, rng.randint(0, 2, count))


def rasterise(boxes, *, width, height, stride=16, scale=35.0, offset=0.5, radius=0.4):
    """Draw boxes in plain loops: an ellipse of coverage per box, later boxes win (tests only)."""
    coverage, bbox = np.zeros((1, height, width)), np.zeros((4, height, width))
    for x_min, y_min, x_max, y_max in boxes:
        centre_x, centre_y = (x_min + x_max) / 2, (y_min + y_max) / 2
        radius_x = max(radius * (x_max - x_min) / 2, stride)
        radius_y = max(radius * (y_max - y_min) / 2, stride)
        for row in range(height):
            for column in range(width):
                away_x = (stride * (column + 0.5) - centre_x) / radius_x
                away_y = (stride * (row + 0.5) - centre_y) / radius_y
                if math.hypot(away_x, away_y) < 1:
                    x, y = stride * column + offset, stride * row + offset
                    coverage[0, row, column] = 1.0
                    bbox[:, row, column] = [x - x_min, y - y_min, x_max - x, y_max - y]
    return coverage.astype(np.float32), (bbox / scale).astype(np.float32)


def scattered_boxes(seed, count):
    """Boxes that do not touch, so that each has cells of its own."""
    rng = np.random.RandomState(seed)
    places = [(x, y) for x in (0, 100, 200) for y in (0, 100)]
    boxes = []
    for index in rng.permutation(len(places))[:count]:
        x, y = places[index]
        width, height = rng.uniform(40, 90, 2)
        boxes.append([x + 4, y + 4, x + 4 + width, y + 4 + height])
    return as_xyxy(boxes)


@pytest.mark.parametrize("postprocess", [DBSCAN, NMS])
@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_decode_of_rasterised_boxes_finds_the_boxes(postprocess, count):
    boxes = scattered_boxes(count, count)
    coverage, bbox = rasterise(boxes, width=20, height=13)
    found = postprocess_maps(
        coverage,
        bbox,
        Grid(),
        postprocess,
        input_wh=(320, 208),
        image_wh=(640, 624),
        apply_confidence_threshold=True,
    )
    assert len(found.xyxy) == count
    expected = boxes * [2, 3, 2, 3]
    best = box_iou(as_xyxy(expected), found.xyxy)
    assert (best.max(axis=1, initial=0) > 0.999).all()


def test_boxes_are_clipped_to_network_input_and_image():
    coverage, bbox = rasterise([[-40, -30, 60, 50]], width=20, height=12)
    found = postprocess_maps(
        coverage,
        bbox,
        Grid(),
        DBSCAN,
        input_wh=(320, 192),
        image_wh=(640, 384),
        apply_confidence_threshold=False,
    )
    assert np.allclose(found.xyxy, [[0, 0, 120, 100]], atol=0.01)


@pytest.mark.parametrize("confidence", ["sum", "mean", "max"])
@pytest.mark.parametrize("cluster", ["dbscan", "nms"])
@pytest.mark.parametrize("seed", range(5))
def test_order_of_cells_does_not_change_the_detections(seed, cluster, confidence):
    cells = random_cells(seed, 60)
    postprocess = DBSCAN._replace(cluster=cluster, confidence=confidence)
    expected = cluster_detections(cells, postprocess)
    order = np.random.RandomState(seed).permutation(60)
    shuffled = cluster_detections(Detections(*(field[order] for field in cells)), postprocess)
    for one, other in zip(expected, shuffled):
        assert np.array_equal(one, other)
    assert len(expected.xyxy) > 0


def test_detections_are_ordered_by_confidence_and_typed():
    found = cluster_detections(random_cells(1, 80), NMS)
    assert (np.diff(found.confidence) <= 0).all()
    assert found.xyxy.dtype == found.confidence.dtype == np.float32
    assert found.class_id.dtype == np.int64
    assert set(found.class_id) == {0, 1}


@pytest.mark.parametrize("postprocess", [DBSCAN, NMS])
def test_no_cells_give_no_detections(postprocess):
    found = cluster_detections(no_detections(), postprocess)
    assert found.xyxy.shape == (0, 4)
    assert found.confidence.shape == found.class_id.shape == (0,)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [("sum", [1.25, 1.0]), ("mean", [1.0, 0.625]), ("max", [1.0, 0.75])],
)
def test_a_cluster_is_the_weighted_mean_and_its_confidence_follows_the_rule(confidence, expected):
    boxes = [[0, 0, 100, 100], [0, 0, 100, 110], [200, 0, 240, 40]]
    found = cluster_detections(
        cells_of(boxes, [0.75, 0.5, 1.0]), DBSCAN._replace(confidence=confidence)
    )
    assert found.confidence.tolist() == expected
    row = 0 if confidence == "sum" else 1
    assert np.allclose(found.xyxy[row], [0, 0, 100, 104])  # (0.75 * 100 + 0.5 * 110) / 1.25
    assert np.allclose(found.xyxy[1 - row], [200, 0, 240, 40])


def test_classes_do_not_mix():
    boxes = [[0, 0, 100, 100]] * 2
    found = cluster_detections(cells_of(boxes, [1.0, 1.0], [0, 1]), DBSCAN)
    assert found.class_id.tolist() == [0, 1]
    assert found.confidence.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("min_samples", [0, 0.05, 1, 1.9])
def test_min_samples_below_2_mean_a_coverage_of_one(min_samples):
    alone = cells_of([[0, 0, 40, 40]], [0.875])
    pair = cells_of([[0, 0, 40, 40]] * 2, [0.5, 0.5])
    postprocess = DBSCAN._replace(min_samples=min_samples)
    assert len(cluster_detections(alone, postprocess).xyxy) == 0
    assert len(cluster_detections(pair, postprocess).xyxy) == 1
    assert len(cluster_detections(pair, postprocess._replace(min_samples=2)).xyxy) == 0


def test_boxes_of_the_minimum_height_are_dropped():
    cells = cells_of([[0, 0, 40, 20], [100, 0, 140, 20.5]], [1.0, 1.0])
    found = cluster_detections(cells, DBSCAN._replace(minimum_box_height=20.0))
    assert found.xyxy[:, 3].tolist() == [20.5]


def test_confidence_threshold_counts_only_when_asked():
    cells = cells_of([[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], [0.75, 0.5, 0.25])
    assert len(cluster_detections(cells, NMS).xyxy) == 3
    kept = cluster_detections(cells, NMS, apply_confidence_threshold=True)
    assert kept.confidence.tolist() == [0.75, 0.5]


def test_nms_keeps_the_strongest_box_and_sums_what_it_suppresses():
    boxes = [[0, 0, 100, 100], [0, 0, 100, 80], [0, 40, 100, 140]]
    cells = cells_of(boxes, [0.5, 1.0, 0.25])
    found = cluster_detections(cells, NMS._replace(confidence="sum"))
    # IoU with the strongest, box 1: 0.8 for box 0, 40 / 140 for box 2
    assert found.xyxy.tolist() == [boxes[1], boxes[2]]
    assert found.confidence.tolist() == [1.5, 0.25]


def test_suppress_does_not_let_a_suppressed_box_suppress():
    iou = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.6], [0.0, 0.6, 1.0]])
    assert suppress(iou, iou_threshold=0.5).tolist() == [0, 0, 1]
    assert suppress(iou, iou_threshold=0.6).tolist() == [0, 1, 2]
    assert suppress(np.zeros((0, 0)), iou_threshold=0.5).tolist() == []


@pytest.mark.parametrize(
    ("weights", "min_samples", "expected"),
    [
        ([1, 1, 1, 1], 1, [0, 0, 1, 1]),
        ([1, 1, 1, 1], 2, [0, 0, 1, 1]),
        ([1, 1, 1, 1], 3, [NOISE] * 4),
        ([0.5, 0.5, 0.5, 0.4], 1, [0, 0, NOISE, NOISE]),
    ],
)
def test_dbscan_table(weights, min_samples, expected):
    position = np.array([0.0, 1.0, 10.0, 11.0])
    distance = np.abs(position[:, None] - position)
    labels = dbscan(distance, np.array(weights), eps=1.0, min_samples=min_samples)
    assert labels.tolist() == expected


def test_a_border_point_belongs_to_the_first_of_two_clusters():
    # Weight within 2: 4.25 at 5 and at 1, only 2.25 at 3, which both of them reach.
    position = np.array([5.0, 6.0, 3.0, 1.0, 0.0])
    weights = np.array([1.0, 3.0, 0.25, 1.0, 3.0])
    for order, expected in (
        ([0, 1, 2, 3, 4], [0, 0, 0, 1, 1]),
        ([2, 4, 3, 0, 1], [0, 0, 0, 1, 1]),
    ):
        distance = np.abs(position[order][:, None] - position[order])
        labels = dbscan(distance, weights[order], eps=2.0, min_samples=4)
        assert labels.tolist() == expected


@pytest.mark.parametrize("seed", range(40))
def test_dbscan_equals_scikit_learn(seed):
    # Weights are sixteenths, so that their sums are exact and ties with min_samples are real.
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.RandomState(seed)
    cells = random_cells(seed, int(rng.randint(1, 150)))
    order = rng.permutation(len(cells.confidence))
    distance = (1.0 - box_iou(cells.xyxy, cells.xyxy, denominator_eps=1e-5))[order][:, order]
    distance = np.round(distance, 2)  # many equal distances, some equal to eps
    weights = cells.confidence[order]
    for eps in (0.1, 0.3, 0.7):
        for min_samples in (1, 2, 5):
            model = cluster.DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
            expected = model.fit(distance, sample_weight=weights).labels_
            labels = dbscan(distance, weights, eps=eps, min_samples=min_samples)
            assert np.array_equal(labels, expected)


def test_only_the_strongest_cells_count():
    boxes = np.array([[0, 0, 40, 40]] * (MAX_CELLS + 500))
    cells = cells_of(boxes, np.full(len(boxes), 0.5))
    found = cluster_detections(cells, DBSCAN)
    assert found.confidence.tolist() == [0.5 * MAX_CELLS]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cluster", "kmeans", "postprocess.cluster is 'kmeans'; known: dbscan, nms"),
        ("confidence", "median", "known: sum, mean, max"),
        ("eps", 1.5, "postprocess.eps is 1.5; expected 0 to 1"),
        ("coverage_threshold", float("nan"), "expected 0 to 1"),
        ("minimum_box_height", -1.0, "expected 0 or more"),
        ("inner_confidence", 1.5, "postprocess.inner_confidence is 1.5; expected 0 to 1"),
    ],
)
def test_a_wrong_constant_is_named(field, value, message):
    assert check_postprocess(DBSCAN) is DBSCAN
    with pytest.raises(ValueError, match=message):
        check_postprocess(DBSCAN._replace(**{field: value}))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("postprocess", [NMS, NMS._replace(confidence="sum"), DBSCAN])
def test_threshold_before_or_after_clustering_finds_the_same(seed, postprocess):
    rng = np.random.RandomState(seed)
    # Sixteenths, so that many cells are at the threshold exactly and many are equal.
    coverage = (rng.randint(0, 17, (2, 8, 10)) / 16.0).astype(np.float32)
    bbox = rng.uniform(0.2, 1.5, (8, 8, 10)).astype(np.float32)
    found = [
        postprocess_maps(
            coverage,
            bbox,
            Grid(),
            postprocess,
            input_wh=(160, 128),
            image_wh=(160, 128),
            apply_confidence_threshold=is_first,
        )
        for is_first in (True, False)
    ]
    keep = found[1].confidence >= postprocess.confidence_threshold
    assert keep.any()
    for first, after in zip(found[0], found[1]):
        np.testing.assert_array_equal(first, after[keep])
