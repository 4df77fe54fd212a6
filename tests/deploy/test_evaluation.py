import cv2
import numpy as np
import pytest

from deploy.core.errors import DeployError
from deploy.evaluation import (
    curve_points,
    detect,
    evaluate_model,
    measure_speed,
    metrics_document,
)
from deploy.frames import find_frames, read_image
from tests.deploy.kitti_folder import write_kitti_folder
from tests.deploy.tiny_models import numpy_classifier, numpy_detector


@pytest.fixture
def frames(tmp_path):
    folder = write_kitti_folder(tmp_path)
    return find_frames(folder / "images", folder / "labels")


def evaluate(frames, **options):
    engine = numpy_detector()
    return evaluate_model(engine.infer, engine.model, frames, **options)


def test_a_detector_that_finds_all_is_measured_as_such(frames):
    evaluation = evaluate(frames)
    document = metrics_document(evaluation)
    assert document["ap50"] == pytest.approx(1.0)
    assert document["ap_tao"] == pytest.approx(6 / 7)  # (N - 1) / N of 7 boxes
    assert (document["num_images"], document["num_boxes"]) == (5, 7)
    assert (document["precision"], document["recall"], document["best_f1"]) == (1.0, 1.0, 1.0)
    assert document["recall_sure"] == 1.0
    assert [row["video"] for row in document["per_video"]] == ["A", "B"]
    assert [row["recall_sure"] for row in document["per_video"]] == [1.0, 1.0]
    assert document["per_video"][1]["num_images"] == 3
    assert sum(row["num_boxes"] for row in document["per_video"]) == 7


def test_figures_do_not_depend_on_the_batch_size(frames):
    expected = metrics_document(evaluate(frames))
    assert metrics_document(evaluate(frames, batch_size=2)) == expected
    assert metrics_document(evaluate(frames, batch_size=99)) == expected


def test_progress_counts_frames(frames):
    seen = []
    evaluate(frames, batch_size=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_postprocess_of_the_caller_wins(frames):
    strict = numpy_detector().model.postprocess._replace(minimum_box_height=90.0)
    assert evaluate(frames, postprocess=strict).metrics.recall == 0.0


def test_detections_are_in_the_pixels_of_each_image(frames):
    engine = numpy_detector()
    image = read_image(frames[0].image_path)
    double = cv2.resize(image, (1280, 768), interpolation=cv2.INTER_NEAREST)
    constants = engine.model.postprocess
    one, two = detect(engine.infer, engine.model, [image, double], constants)
    # The anchor's offset of 0.5 input pixels is 2 pixels here: the tiny detector ignores it.
    assert np.allclose(one.xyxy, [[66, 66, 194, 194]], atol=0.1)
    assert np.allclose(two.xyxy, one.xyxy * 2, atol=0.1)
    assert engine.batch_sizes == [2]


def test_letterbox_of_model_json_is_followed(frames):
    engine = numpy_detector()
    info = engine.model._replace(preprocess=engine.model.preprocess._replace(resize="letterbox"))
    image = np.full((384, 1280, 3), 20, np.uint8)
    image[128:256, 512:768] = (0, 0, 255)  # 32 x 16 input pixels from row 40 on
    found = detect(engine.infer, info, [image], info.postprocess)[0]
    centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    assert np.allclose(centre, [[640, 192]], atol=8.0)


def test_a_classifier_is_refused(frames):
    engine = numpy_classifier()
    with pytest.raises(DeployError, match="tiny-classifier is a classifier"):
        evaluate_model(engine.infer, engine.model, frames)


def test_outputs_that_are_no_detector_maps_are_refused(frames):
    engine = numpy_detector()
    info = engine.model._replace(outputs={"boxes": (7, 10)})
    with pytest.raises(DeployError, match="is not a DetectNet_v2 detector"):
        evaluate_model(engine.infer, info, frames)


def test_maps_are_found_by_their_channels_whatever_their_names():
    info = numpy_detector().model
    named = info._replace(outputs={"b:0": (4, 6, 10), "a:0": (1, 6, 10)})
    assert named.map_names == ("a:0", "b:0")


def test_curve_points_are_thinned_and_keep_both_ends(frames):
    metrics = evaluate(frames).metrics
    points = curve_points(metrics, limit=3)
    assert [point["recall"] for point in points] == pytest.approx([1 / 7, 4 / 7, 1], abs=1e-6)
    assert set(points[0]) == {"recall", "precision", "confidence"}
    assert len(curve_points(metrics)) == 7
    assert curve_points(evaluate([]).metrics) == []


def test_speed_times_single_images_after_the_warm_up(frames):
    engine = numpy_detector()
    speed = measure_speed(engine.infer, engine.model, frames, num_images=4)
    assert engine.batch_sizes == [1] * 7
    assert speed.num_images == 4
    assert 0 < speed.infer_ms_p50 <= speed.total_ms_p50 <= speed.total_ms_p90 <= speed.total_ms_p99
    assert measure_speed(engine.infer, engine.model, [], num_images=4).num_images == 0
