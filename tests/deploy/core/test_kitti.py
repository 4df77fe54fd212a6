import pytest

from deploy.core.errors import DeployError, UserError
from deploy.core.kitti import format_labels, hand_label, label_boxes, parse_labels, read_labels

LINE = "hand 0.00 0 0.00 1.00 2.00 3.50 4.25 0.00 0.00 0.00 0.00 0.00 0.00 0.00"
CAR = "Car 0.10 2 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56"


def test_a_hand_is_written_as_15_columns():
    assert format_labels([hand_label([1, 2, 3.5, 4.25])]) == LINE + "\n"


@pytest.mark.parametrize("text", ["", "\n", LINE + "\n", LINE + "\n" + CAR + "\n"])
def test_parse_then_format_gives_the_same_lines(text):
    assert format_labels(parse_labels(text, source="a.txt")) == text.lstrip("\n")


def test_format_then_parse_gives_the_same_labels():
    labels = [hand_label([0.25 * n, n, 100.75 + n, 90.5]) for n in range(5)]
    assert parse_labels(format_labels(labels), source="a.txt") == labels


def test_fields_have_their_spec_names():
    label = parse_labels(CAR, source="a.txt")[0]
    assert (label.type, label.truncated, label.occluded, label.alpha) == ("Car", 0.1, 2, -1.57)
    assert label.bbox == (599.41, 156.40, 629.75, 189.25)
    assert label.dimensions == (2.85, 2.63, 12.34)
    assert label.location == (0.47, 1.49, 69.44)
    assert (label.rotation_y, label.score) == (-1.56, None)


def test_a_score_needs_to_be_allowed():
    text = format_labels([hand_label([1, 2, 3, 4], score=0.875)])
    assert parse_labels(text, source="a.txt", allow_score=True)[0].score == 0.875
    with pytest.raises(DeployError, match="16 columns; expected 15"):
        parse_labels(text, source="a.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE[: -len(" 0.00")], r"x/a.txt:2: 14 columns; expected 15 .*; correct"),
        (LINE.replace("3.50", "wide"), r"x/a.txt:2: 'wide' is not a finite number"),
        (LINE.replace("3.50", "nan"), r"x/a.txt:2: 'nan' is not a finite number"),
        (LINE.replace("3.50", "inf"), r"x/a.txt:2: 'inf' is not a finite number"),
        (LINE.replace("3.50", "0.50"), r"x/a.txt:2: box 1.00 2.00 0.50 4.25 is inverted"),
    ],
)
def test_a_bad_line_is_named_in_one_line(line, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_labels(LINE + "\n" + line + "\n", source="x/a.txt")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(DeployError, match="none.txt: cannot be read"):
        read_labels(tmp_path / "none.txt")
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DeployError, match="photo.txt: cannot be read"):
        read_labels(tmp_path / "photo.txt")


def test_boxes_keep_file_order_and_can_be_of_one_class(tmp_path):
    (tmp_path / "a.txt").write_text(CAR + "\n" + LINE + "\n")
    labels = read_labels(tmp_path / "a.txt")
    assert label_boxes(labels).shape == (2, 4)
    assert label_boxes(labels, class_name="Hand").tolist() == [[1, 2, 3.5, 4.25]]
    assert label_boxes([]).shape == (0, 4)
