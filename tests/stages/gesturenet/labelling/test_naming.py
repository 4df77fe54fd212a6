from pathlib import Path

import pytest

from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.naming import (
    check_classes,
    crop_name,
    image_keys,
    source_key,
    video_key,
)


@pytest.mark.parametrize(
    ("uri", "taken", "expected"),
    [
        ("a/clip.mp4", (), "clip"),
        ("a/My clip_2 (ö).mp4", (), "My-clip-2"),
        ("a/clip.mp4", ("clip",), "clip-2"),
        ("a/clip.mp4", ("clip", "clip-2"), "clip-3"),
        ("folder.of.pictures", (), "folder-of-pictures"),
        ("a/___.mp4", (), "source"),
    ],
)
def test_a_source_is_named_by_its_file_or_folder(
    tmp_path: Path, uri: str, taken: tuple[str, ...], expected: str
) -> None:
    path = tmp_path / uri
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"") if path.suffix == ".mp4" else path.mkdir()
    assert source_key(str(path), taken=taken) == expected


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        ([], []),
        (["frame_0001", "frame_0002"], ["frame-0001", "frame-0002"]),
        (["a b", "a-b", "a_b"], ["a-b", "a-b-2", "a-b-3"]),
        (["..", "../etc"], ["source", "etc"]),
    ],
)
def test_every_image_has_a_name_of_its_own(stems: list[str], expected: list[str]) -> None:
    assert image_keys(stems) == expected


def test_the_source_is_what_stands_before_the_only_underscore() -> None:
    name = crop_name("My-clip-2", video_key(41), 1)
    assert name == "My-clip-2_000041-1.jpg"
    assert crop_name("a", video_key(1_234_567), 0) == "a_1234567-0.jpg"


@pytest.mark.parametrize(
    "classes",
    [
        (),
        ("one",),
        ("a", "a"),
        ("a", "discard"),
        ("a", "../b"),
        ("a", ""),
        ("a", "b/c"),
        ("a", "."),
    ]
    + [tuple("abcdefghij")],
)
def test_classes_that_are_no_folders_or_keys_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(GestureError, match="model x: the classes are"):
        check_classes(classes, origin="model x")


def test_the_classes_of_gesturenet_pass() -> None:
    from stages.gesturenet.config import GESTURES

    assert check_classes(GESTURES, origin="model x") == GESTURES
