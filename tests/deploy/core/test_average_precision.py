import numpy as np
import pytest

from deploy.core.average_precision import (
    COCO_IOUS,
    SURE_IOU,
    SURE_PRECISION,
    Curve,
    best_operating_point,
    evaluate_detections,
    match_detections,
    operating_point,
    precision_recall,
    recall_at_precision,
)
from deploy.core.boxes import Detections, as_xyxy, no_detections, take_detections

BOX = [10.0, 10.0, 50.0, 50.0]
FAR = [200.0, 200.0, 260.0, 250.0]


def found(boxes, confidence):
    return Detections(
        as_xyxy(boxes), np.asarray(confidence, np.float32), np.zeros(len(boxes), np.int64)
    )


def evaluate(predictions, truths, **options):
    truths = {stem: as_xyxy(boxes) for stem, boxes in truths.items()}
    options = {"confidence_threshold": 0.5, **options}
    return evaluate_detections(predictions, truths, **options)


def random_case(seed, num_images=30):
    """Truths, and detections that are jittered truths, doubles and inventions."""
    rng = np.random.RandomState(seed)
    predictions, truths = {}, {}
    for index in range(num_images):
        corner = rng.uniform(0, 250, (rng.randint(0, 5), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(15, 90, corner.shape)], axis=1)
        near = np.repeat(boxes, rng.randint(1, 4), axis=0)
        near = np.sort((near + rng.normal(0, 5, near.shape)).reshape(-1, 2, 2), axis=1)
        near = near.reshape(-1, 4)  # sorted, since COCOeval ignores boxes of negative area
        corner = rng.uniform(0, 250, (rng.randint(0, 4), 2))
        other = np.concatenate([corner, corner + rng.uniform(15, 90, corner.shape)], axis=1)
        candidates = np.concatenate([near, other])
        # Few different confidences, so that ties are common.
        predictions[f"v_{index:03d}"] = found(candidates, rng.randint(1, 20, len(candidates)) / 20)
        truths[f"v_{index:03d}"] = as_xyxy(boxes)
    return predictions, truths


def test_a_perfect_detector_of_n_boxes_has_ap_1_and_tao_ap_n_minus_1_of_n():
    for count in (1, 2, 4, 10):
        boxes = [[100.0 * n, 0.0, 100.0 * n + 50, 60.0] for n in range(count)]
        metrics = evaluate({"a": found(boxes, np.linspace(1, 0.6, count))}, {"a": boxes})
        assert metrics.ap == pytest.approx(1.0)
        assert metrics.ap_tao == pytest.approx((count - 1) / count)
        assert (metrics.precision, metrics.recall, metrics.f1) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("predictions", "truths"),
    [({}, {}), ({}, {"a": []}), ({"a": found([BOX], [0.9])}, {"a": []}), ({}, {"a": [BOX]})],
)
def test_nothing_to_find_or_nothing_found_is_zero(predictions, truths):
    metrics = evaluate(predictions, truths)
    assert metrics[:8] == (0.0,) * 8
    assert metrics.sure_confidence_threshold == 1.0
    assert metrics.num_images == len(truths)


def test_counts_and_operating_point():
    truths = {"a": [BOX, FAR], "b": [BOX], "c": []}
    predictions = {"a": found([BOX, FAR], [0.9, 0.4]), "b": found([FAR], [0.8])}
    metrics = evaluate(predictions, truths)
    assert (metrics.num_images, metrics.num_boxes) == (3, 3)
    assert metrics.precision == pytest.approx(1 / 2)  # 0.9 right, 0.8 wrong, 0.4 not counted
    assert metrics.recall == pytest.approx(1 / 3)
    assert metrics.f1 == pytest.approx(0.4)
    assert metrics.curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert metrics.curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert metrics.curve.confidence.tolist() == pytest.approx([0.9, 0.8, 0.4])


def test_coco_interpolates_at_101_recalls():
    # right, wrong, right of 2 boxes: precision 1 up to recall 0.5 (51 points), then 2/3 (50).
    predictions = {"a": found([BOX, [400, 400, 440, 440], FAR], [0.9, 0.8, 0.7])}
    metrics = evaluate(predictions, {"a": [BOX, FAR]})
    assert metrics.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    # Half of the boxes found: 51 points of 101.
    assert evaluate({"a": found([BOX], [0.9])}, {"a": [BOX, FAR]}).ap50 == pytest.approx(51 / 101)


def test_iou_thresholds_separate_ap50_and_ap75():
    loose = [10.0, 10.0, 50.0, 36.0]  # IoU 26 / 40 = 0.65: right at 0.50, 0.55, 0.60, 0.65
    metrics = evaluate({"a": found([loose], [0.9])}, {"a": [BOX]})
    assert (metrics.ap50, metrics.ap75) == (1.0, 0.0)
    assert metrics.ap == pytest.approx(0.4)


def test_a_second_detection_of_a_box_is_wrong():
    predictions = {"a": found([BOX, BOX], [0.9, 0.8])}
    metrics = evaluate(predictions, {"a": [BOX]})
    assert metrics.precision == 0.5
    assert metrics.ap50 == 1.0  # it comes after the right one


def test_coco_falls_back_to_the_next_box_and_tao_does_not():
    one, two = [0.0, 0.0, 100.0, 100.0], [0.0, 8.0, 100.0, 108.0]
    both_near_one = found([one, [0.0, 1.0, 100.0, 101.0]], [0.9, 0.8])
    metrics = evaluate({"a": both_near_one}, {"a": [one, two]})
    assert metrics.recall == 1.0
    assert metrics.ap_tao == 0.0  # one right: recall 0.5 at most, whose left area does not count


def test_tao_integrate_by_hand():
    # Recalls 1/4 (precision 1), 1/4 (1/2), 2/4 (2/3), 3/4 (3/4): unique recalls 1/4, 2/4, 3/4.
    # Envelope: [2/4, 3/4) max(2/3, 0) = 2/3; [1/4, 2/4) max(max(1, 1/2), 2/3) = 1. The last
    # point's 3/4 does not count. Area 0.25 * 2/3 + 0.25 * 1.
    boxes = [[100.0 * n, 0.0, 100.0 * n + 50, 60.0] for n in range(4)]
    order = [boxes[0], [900.0, 900.0, 950.0, 950.0], boxes[1], boxes[2]]
    metrics = evaluate({"a": found(order, [0.9, 0.8, 0.7, 0.6])}, {"a": boxes})
    assert metrics.ap_tao == pytest.approx(0.25 * 2 / 3 + 0.25)


def test_tao_counts_the_area_from_recall_zero_when_the_first_detection_is_wrong():
    # Recalls 0 (precision 0), 1/2 (1/2), 2/2 (2/3): envelope [1/2, 1) 1/2, [0, 1/2) max(0, 1/2).
    predictions = {"a": found([[400, 400, 440, 440], BOX, FAR], [0.9, 0.8, 0.7])}
    assert evaluate(predictions, {"a": [BOX, FAR]}).ap_tao == pytest.approx(0.5 * 0.5 + 0.5 * 0.5)


def test_tao_counts_border_pixels_and_whole_numbers():
    # As areas 6/9 = 0.67 < 0.7; with the border pixel (7 * 10) / (10 * 10) = 0.7, which is enough.
    truth, second = [0.0, 0.0, 9.0, 9.0], [100.0, 0.0, 140.0, 40.0]
    short = [0.3, 0.0, 9.0, 6.4]  # rounds to 0 0 9 6
    metrics = evaluate({"a": found([second, short], [0.9, 0.8])}, {"a": [truth, second]})
    assert metrics.ap_tao == pytest.approx(0.5)
    assert metrics.curve.recall[-1] == 1.0


def test_tao_minimum_size_leaves_out_small_boxes_of_both_sides():
    small = [0.0, 0.0, 9.0, 30.0]
    predictions = {"a": found([BOX, small, FAR], [0.9, 0.8, 0.7])}
    metrics = evaluate(predictions, {"a": [BOX, FAR]}, tao_minimum_wh=(10, 20))
    assert metrics.ap_tao == pytest.approx(0.5)
    # 40 x 40 is too small now: one box left, found, and (1 - 1) / 1.
    metrics = evaluate(predictions, {"a": [BOX, FAR]}, tao_minimum_wh=(41, 20))
    assert metrics.ap_tao == 0.0


def test_order_of_images_and_of_detections_does_not_matter():
    predictions, truths = random_case(3)
    # Ties between images are broken by name, so shuffle the dictionaries alone.
    again = evaluate(
        dict(reversed(list(predictions.items()))), dict(reversed(list(truths.items())))
    )
    assert again[:-1] == evaluate(predictions, truths)[:-1]


def test_only_the_100_most_confident_detections_of_an_image_count():
    wrong = [[400.0, 400.0, 440.0, 440.0]] * 100
    predictions = {"a": found([*wrong, BOX], [0.9] * 100 + [0.8])}
    assert evaluate(predictions, {"a": [BOX]}).ap50 == 0.0
    predictions = {"a": found([*wrong[:99], BOX], [0.9] * 99 + [0.8])}
    assert evaluate(predictions, {"a": [BOX]}).ap50 == pytest.approx(0.01)


def test_adding_a_wrong_detection_never_raises_ap():
    predictions, truths = random_case(5, num_images=8)
    before = evaluate(predictions, truths)
    stem = sorted(truths)[0]
    old = predictions[stem]
    worse = found([*old.xyxy.tolist(), [900, 900, 950, 950]], [*old.confidence.tolist(), 0.99])
    after = evaluate(dict(predictions, **{stem: worse}), truths)
    assert after.ap <= before.ap
    assert after.recall == before.recall


def test_a_prediction_without_truth_is_refused():
    with pytest.raises(ValueError, match="without truth: b"):
        evaluate({"b": no_detections()}, {"a": [BOX]})


def test_operating_points():
    curve = Curve(np.array([0.5, 0.5, 1.0]), np.array([1, 0.5, 2 / 3]), np.array([0.9, 0.5, 0.5]))
    assert operating_point(curve, 0.95)[1:] == (0.0, 0.0, 0.0)
    assert operating_point(curve, 0.9)[1:3] == (1.0, 0.5)
    best = best_operating_point(curve)
    assert (best.confidence_threshold, best.recall) == (0.5, 1.0)
    assert best.f1 == pytest.approx(0.8)
    empty = Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    assert best_operating_point(empty) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("confidence", "hits", "precision", "point"),
    [
        ([], [], 0.5, (1.0, 0.0, 0.0)),
        # Precision 1, 1/2, 2/3, 3/4, 3/5 of 4 boxes: recall 1/4, 1/4, 2/4, 3/4, 3/4.
        ([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0], 0.75, (0.6, 3 / 4, 3 / 4)),
        ([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0], 0.76, (0.9, 1.0, 1 / 4)),
        # Of equal recalls the lowest threshold.
        ([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0], 0.6, (0.5, 3 / 5, 3 / 4)),
        # A cut at 0.8 keeps all three; their precision is 2/3, that of the first two is 1.
        ([0.9, 0.8, 0.8], [1, 1, 0], 0.9, (0.9, 1.0, 1 / 4)),
        ([0.9, 0.8, 0.8], [1, 0, 1], 0.6, (0.8, 2 / 3, 2 / 4)),
        ([0.9, 0.9], [1, 0], 0.9, (1.0, 0.0, 0.0)),
        # Nothing is so precise: a threshold that keeps nothing, of summed confidences too.
        ([0.9, 0.8], [0, 1], 0.9, (1.0, 0.0, 0.0)),
        ([1.0, 0.8], [0, 1], 0.9, (2.0, 0.0, 0.0)),
        ([7.5], [0], 0.1, (8.0, 0.0, 0.0)),
    ],
)
def test_recall_at_precision_by_hand(confidence, hits, precision, point):
    curve = precision_recall(np.array(confidence), np.array(hits, dtype=bool), 4)
    assert recall_at_precision(curve, precision)[:3] == pytest.approx(point)


@pytest.mark.parametrize("seed", range(8))
def test_recall_at_precision_is_that_of_the_detections_cut_at_its_threshold(seed):
    predictions, truths = random_case(seed)
    stems = sorted(truths)
    boxes = [truths[stem].astype(np.float64) for stem in stems]
    num_boxes = sum(len(xyxy) for xyxy in boxes)

    def cut(threshold):
        """Precision and recall at IoU 0.3, counted on the detections that are left."""
        kept = [take_detections(p, p.confidence >= threshold) for p in map(predictions.get, stems)]
        _, hits = match_detections(kept, boxes, np.array([SURE_IOU]))
        return hits.sum() / max(hits.size, 1), hits.sum() / num_boxes

    whole = match_detections([predictions[stem] for stem in stems], boxes, np.array([SURE_IOU]))
    curve = precision_recall(whole[0], whole[1][0], num_boxes)
    for wanted in (0.5, 0.6, 0.7, 0.97):
        point = recall_at_precision(curve, wanted)
        # At every threshold there is: none finds more as precisely.
        cuts = {threshold: cut(threshold) for threshold in set(curve.confidence)}
        precise = [(recall, -t) for t, (precision, recall) in cuts.items() if precision >= wanted]
        if precise:
            assert (point.recall, -point.confidence_threshold) == max(precise)
            assert cuts[point.confidence_threshold] == (point.precision, point.recall)
        else:
            assert cut(point.confidence_threshold) == (0.0, 0.0)
            assert point[1:] == (0.0, 0.0, 0.0)


def test_the_sure_recall_is_at_iou_0_3_and_precision_0_97():
    assert (SURE_IOU, SURE_PRECISION) == (0.3, 0.97)
    loose = [10.0, 10.0, 50.0, 24.0]  # IoU 14 / 40 = 0.35, wrong at 0.5
    far = [400.0, 400.0, 440.0, 440.0]
    predictions = {"a": found([loose, FAR, far, BOX], [0.9, 0.8, 0.7, 0.6])}
    metrics = evaluate(predictions, {"a": [BOX, FAR], "b": [BOX]})
    assert metrics.recall_sure == pytest.approx(2 / 3)  # BOX is found already: 0.6 is wrong
    assert metrics.sure_confidence_threshold == pytest.approx(0.8)
    assert metrics.recall == pytest.approx(2 / 3)  # at IoU 0.5 BOX is found by 0.6
    assert metrics.curve.precision.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


@pytest.mark.parametrize("seed", range(4))
def test_a_row_for_another_iou_changes_no_other_row(seed):
    predictions, truths = random_case(seed)
    stems = sorted(truths)
    found_boxes = [predictions[stem] for stem in stems]
    boxes = [truths[stem].astype(np.float64) for stem in stems]
    _, alone = match_detections(found_boxes, boxes, COCO_IOUS)
    _, both = match_detections(found_boxes, boxes, np.append(COCO_IOUS, SURE_IOU))
    assert np.array_equal(both[:-1], alone)


@pytest.mark.parametrize("seed", range(12))
def test_coco_equals_faster_coco_eval(seed):
    # Tolerance 1e-6: the reference adds 2.2e-16 to denominators, both compute in double precision.
    coco = pytest.importorskip("faster_coco_eval")
    predictions, truths = random_case(seed)
    stems = sorted(truths)
    images = [{"id": index, "width": 400, "height": 400} for index in range(len(stems))]
    annotations, results = [], []
    for image, stem in enumerate(stems):
        for xywh in to_xywh(truths[stem]):
            area = xywh[2] * xywh[3]
            entry = {"id": len(annotations) + 1, "image_id": image, "category_id": 1}
            annotations.append(dict(entry, bbox=xywh, area=area, iscrowd=0))
        scores = predictions[stem].confidence.astype(np.float64).tolist()
        for xywh, score in zip(to_xywh(predictions[stem].xyxy), scores):
            results.append({"image_id": image, "category_id": 1, "bbox": xywh, "score": score})
    dataset = {"images": images, "annotations": annotations}
    truth = coco.COCO(dict(dataset, categories=[{"id": 1, "name": "hand"}]))
    reference = coco.COCOeval_faster(truth, truth.loadRes(results), "bbox", print_function=str)
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    metrics = evaluate(predictions, truths)
    assert [metrics.ap, metrics.ap50, metrics.ap75] == pytest.approx(reference.stats[:3], abs=1e-6)
    assert 0.05 < metrics.ap < 0.95


def to_xywh(xyxy):
    boxes = np.asarray(xyxy, dtype=np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()


def test_matching_takes_the_last_of_equal_overlaps():
    # As COCOeval; it decides which box is left for the next detection.
    truths = [as_xyxy([[0, 0, 10, 10], [0, 0, 10, 10]]).astype(np.float64)]
    confidence, hits = match_detections(
        [found([[0, 0, 10, 10]] * 3, [0.9, 0.8, 0.7])], truths, COCO_IOUS
    )
    assert hits[0].tolist() == [True, True, False]
    assert confidence.tolist() == pytest.approx([0.9, 0.8, 0.7])
