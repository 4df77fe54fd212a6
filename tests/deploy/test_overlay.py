import numpy as np
import pytest

from deploy.overlay import BLUE, GREEN, ORANGE, draw_caption, draw_detections, line_width


def grey(height=180, width=320):
    return np.full((height, width, 3), 128, np.uint8)


def changed(before, after):
    """Rows and columns that differ, as y_min, y_max, x_min, x_max."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_a_box_is_drawn_on_a_copy():
    image = grey()
    drawn = draw_detections(image, np.float32([[50, 60, 120, 140]]), [""], colors=ORANGE)
    assert (image == 128).all()
    assert tuple(drawn[100, 50]) == tuple(drawn[60, 80]) == ORANGE
    assert tuple(drawn[100, 85]) == (128, 128, 128)
    assert changed(image, drawn) == pytest.approx((60, 140, 50, 120), abs=3)


def test_nothing_to_draw_gives_an_equal_copy():
    image = grey()
    for boxes in (np.zeros((0, 4), np.float32), np.float32([[np.nan, 1, 2, 3]])):
        drawn = draw_detections(image, boxes, [""] * len(boxes), colors=GREEN)
        assert np.array_equal(drawn, image)
        assert drawn is not image


def test_each_box_has_its_color_and_the_first_lies_on_top():
    boxes = np.float32([[50, 60, 120, 140], [50, 60, 120, 140], [200, 60, 240, 140]])
    drawn = draw_detections(grey(), boxes, [""] * 3, colors=[ORANGE, GREEN, BLUE])
    assert tuple(drawn[100, 50]) == ORANGE
    assert tuple(drawn[100, 200]) == BLUE


@pytest.mark.parametrize(
    "box", [[100, 90, 160, 150], [100, 0, 160, 60], [300, 90, 319, 150], [-40, -40, 400, 400]]
)
def test_a_label_stays_inside_the_picture_and_is_readable(box):
    image = grey()
    plain = draw_detections(image, np.float32([box]), [""], colors=ORANGE)
    drawn = draw_detections(image, np.float32([box]), ["fist 0.97"], colors=ORANGE)
    y_min, y_max, x_min, x_max = changed(plain, drawn)
    assert y_max - y_min >= 8
    assert 40 <= x_max - x_min < 160
    plate = drawn[y_min : y_max + 1, x_min : x_max + 1].astype(int)
    ink = np.abs(plate - np.array(ORANGE)).sum(axis=2)
    assert (ink == 0).mean() > 0.3
    assert (ink > 250).mean() > 0.05


def test_a_label_stands_above_its_box_where_there_is_room():
    image = grey()
    box = np.float32([[100, 90, 160, 150]])
    plain = draw_detections(image, box, [""], colors=ORANGE)
    assert changed(plain, draw_detections(image, box, ["ok"], colors=ORANGE))[1] <= 92


def test_lines_grow_with_the_picture():
    assert [line_width((h, 2 * h, 3)) for h in (96, 192, 540, 1080, 2160)] == [1, 1, 2, 4, 9]


def test_a_caption_is_in_the_lower_left_corner():
    y_min, y_max, x_min, _ = changed(grey(), draw_caption(grey(), "best F1 1.00"))
    assert (y_max, x_min) == (179, 0)
    assert y_min > 140


def test_numbers_of_boxes_texts_and_colors_must_agree():
    boxes = np.float32([[1, 2, 30, 40]] * 2)
    with pytest.raises(ValueError, match="2 boxes but 1 texts"):
        draw_detections(grey(), boxes, ["a"], colors=GREEN)
    with pytest.raises(ValueError, match="2 boxes but 1 colors"):
        draw_detections(grey(), boxes, ["a", "b"], colors=[GREEN])


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 3, 3), (2000, 20, 3)])
def test_tiny_and_odd_pictures_are_no_trouble(shape):
    image = np.zeros(shape, np.uint8)
    assert draw_detections(image, np.float32([[0, 0, 2, 2]]), ["two"], colors=GREEN).shape == shape
