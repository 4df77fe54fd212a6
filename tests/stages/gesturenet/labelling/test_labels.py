from pathlib import Path

import pytest

from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.labels import (
    FILE_NAME,
    accept_suggestions,
    apply_changes,
    check_changes,
    count_labels,
    read_labels,
    write_labels,
)
from tests.stages.gesturenet.labelling.samples import CLASSES, make_crop


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    assert read_labels(tmp_path, classes=CLASSES) == {}
    labels = {"b.jpg": "fist", "a.jpg": "discard"}
    write_labels(tmp_path, labels)
    assert read_labels(tmp_path, classes=CLASSES) == labels
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"labels": 3}', '{"labels": [1]}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(GestureError, match=r"labels\.json cannot be read .*; correct it"):
        read_labels(tmp_path, classes=CLASSES)


@pytest.mark.parametrize("label", ["three", "", None, 3, ["fist"]])
def test_an_unknown_class_is_named(tmp_path: Path, label: object) -> None:
    write_labels(tmp_path, {"a.jpg": label})  # type: ignore[dict-item]
    with pytest.raises(GestureError, match=r"a\.jpg has the class .*known: fist, stop, ok, disc"):
        read_labels(tmp_path, classes=CLASSES)


@pytest.mark.parametrize(
    "changes",
    [None, [], "a.jpg", {"b.jpg": "fist"}, {"../a.jpg": "fist"}, {"a.jpg": "x"}, {"a.jpg": []}],
)
def test_changes_from_outside_are_checked(changes: object) -> None:
    with pytest.raises(GestureError):
        check_changes(changes, names={"a.jpg"}, classes=CLASSES)


@pytest.mark.parametrize(
    ("labels", "changes", "expected"),
    [
        ({}, {}, {}),
        ({}, {"a": "fist"}, {"a": "fist"}),
        ({"a": "fist", "b": "ok"}, {"a": "discard"}, {"a": "discard", "b": "ok"}),
        ({"a": "fist"}, {"a": None, "b": None}, {}),
    ],
)
def test_changes_replace_and_take_back(labels: dict, changes: dict, expected: dict) -> None:
    before = dict(labels)
    assert apply_changes(labels, changes) == expected
    assert labels == before


def test_counts_are_of_what_a_person_said() -> None:
    crops = [make_crop("a"), make_crop("b"), make_crop("c"), make_crop("d", None)]
    labels = {"a": "stop", "b": "discard", "gone": "ok"}
    tally = count_labels(crops, labels, classes=CLASSES)
    assert tally == ({"fist": 0, "stop": 1, "ok": 0}, 1, 2)


def test_a_suggestion_never_replaces_what_a_person_said() -> None:
    crops = [make_crop("a"), make_crop("b"), make_crop("c", None)]
    assert accept_suggestions(crops, {"a": "discard"}) == {"a": "discard", "b": "fist"}
