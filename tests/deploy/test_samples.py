import cv2
import numpy as np
import pytest

from deploy.core.boxes import Detections, as_xyxy, no_detections
from deploy.frames import Frame
from deploy.overlay import GREEN, ORANGE
from deploy.samples import (
    SHEET_NAME,
    Sample,
    choose_samples,
    draw_sample,
    draw_sheet,
    write_samples,
)

BOX = [20.0, 30.0, 60.0, 70.0]


def detections(boxes, confidence=0.9):
    count = len(boxes)
    return Detections(
        as_xyxy(boxes), np.full(count, confidence, np.float32), np.zeros(count, np.int64)
    )


def make_frames(folder, count, videos=("a", "b")):
    frames, predictions = [], {}
    for index in range(count):
        stem = f"{videos[index % len(videos)]}_{index:03d}"
        path = folder / (stem + ".png")
        cv2.imwrite(str(path), np.full((96, 160, 3), 120, np.uint8))
        frames.append(Frame(stem, path, as_xyxy([BOX, [100, 20, 130, 60]])))
        # F1 0, 2/3 and 1 in turn
        predictions[stem] = detections(frames[-1].truth[: index % 3])
    return frames, predictions


def choose(frames, predictions, count):
    return choose_samples(frames, predictions, count=count, confidence_threshold=0.5)


def test_worst_median_and_best_come_in_this_order(tmp_path):
    frames, predictions = make_frames(tmp_path, 12)
    samples = choose(frames, predictions, 6)
    assert [sample.group for sample in samples] == ["worst"] * 2 + ["median"] * 2 + ["best"] * 2
    assert [sample.f1 for sample in samples] == pytest.approx([0, 0, 2 / 3, 2 / 3, 1, 1])
    assert len({sample.frame.stem for sample in samples}) == 6


def test_every_video_comes_before_any_comes_twice(tmp_path):
    frames, predictions = make_frames(tmp_path, 24, videos=("a", "b", "c", "d"))
    samples = choose(frames, predictions, 12)
    worst = [sample.frame.stem[0] for sample in samples if sample.group == "worst"]
    assert sorted(worst) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("count", "num_frames"), [(0, 5), (1, 5), (7, 5), (5, 0)])
def test_there_are_never_more_samples_than_frames(tmp_path, count, num_frames):
    frames, predictions = make_frames(tmp_path, num_frames)
    assert len(choose(frames, predictions, count)) == min(count, num_frames)


def test_frames_without_truth_wait_until_nothing_else_is_there(tmp_path):
    frames, predictions = make_frames(tmp_path, 2)
    empty = frames[0]._replace(truth=as_xyxy([]))
    assert [s.frame.stem for s in choose([empty, frames[1]], predictions, 2)] == ["b_001"]
    assert [s.frame.stem for s in choose([empty], predictions, 2)] == ["a_000"]


def test_truth_is_green_and_confident_detections_are_orange(tmp_path):
    frames, _ = make_frames(tmp_path, 1)
    frame = frames[0]._replace(truth=as_xyxy([BOX]))
    found = Detections(
        as_xyxy([[90, 40, 120, 80], [130, 40, 150, 80]]), np.float32([0.9, 0.1]), np.zeros(2, int)
    )
    picture = draw_sample(Sample(frame, "best", 1.0), found, confidence_threshold=0.5)
    assert tuple(picture[50, 20]) == GREEN
    assert tuple(picture[60, 90]) == ORANGE
    assert tuple(picture[60, 130]) == (120, 120, 120)


def test_boxes_follow_the_picture_into_its_tile(tmp_path):
    frames, _ = make_frames(tmp_path, 1)
    frame = frames[0]._replace(truth=as_xyxy([BOX]))
    picture = draw_sample(
        Sample(frame, "best", 1.0), no_detections(), confidence_threshold=0.5, tile_wh=(640, 400)
    )
    # 160 x 96 becomes 640 x 384 with 8 rows of margin: x 20 -> 80, y 50 -> 208
    assert picture.shape == (400, 640, 3)
    assert tuple(picture[208, 80]) == GREEN


@pytest.mark.parametrize(
    ("count", "shape"), [(0, (90, 160)), (1, (90, 160)), (4, (90, 664)), (5, (188, 664))]
)
def test_a_sheet_has_at_most_four_columns(tmp_path, count, shape):
    frames, predictions = make_frames(tmp_path, 5)
    samples = [Sample(frame, "best", 1.0) for frame in frames[:count]]
    sheet = draw_sheet(samples, predictions, confidence_threshold=0.5, tile_wh=(160, 90))
    assert sheet.shape == shape + (3,)


def test_files_of_the_samples_are_written(tmp_path):
    frames, predictions = make_frames(tmp_path, 6)
    paths = write_samples(tmp_path / "out", frames, predictions, count=3, confidence_threshold=0.5)
    assert [path.name for path in paths] == [
        SHEET_NAME,
        "00_worst_a_000.jpg",
        "01_median_b_001.jpg",
        "02_best_a_002.jpg",
    ]
    assert all(cv2.imread(str(path)) is not None for path in paths)
