"""Atomic outputs leave earlier results whole; hashes depend on names and contents alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stages._files import atomic, hash_paths, rounded, write_json


def fail_after(place: Path, write: Callable[[Path], object], *, is_file: bool) -> None:
    with atomic(place, is_file=is_file) as aside:
        write(aside)
        raise RuntimeError


def test_a_failed_write_leaves_the_earlier_file_whole(tmp_path: Path):
    place = tmp_path / "out.txt"
    place.write_text("before")
    with pytest.raises(RuntimeError):
        fail_after(place, lambda aside: aside.write_text("half"), is_file=True)
    assert place.read_text() == "before"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_failed_write_leaves_the_earlier_folder_whole(tmp_path: Path):
    place = tmp_path / "out"
    place.mkdir()
    (place / "a").write_text("before")
    with pytest.raises(RuntimeError):
        fail_after(place, lambda aside: (aside / "b").write_text("half"), is_file=False)
    assert [p.name for p in place.iterdir()] == ["a"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path):
    for name in ("first", "second"):
        with atomic(tmp_path / "deep" / "out") as aside:
            (aside / name).touch()
    assert [p.name for p in (tmp_path / "deep" / "out").iterdir()] == ["second"]


def test_a_linked_output_is_replaced_and_never_written_through(tmp_path: Path):
    """DVC may hard-link an output to its cache; writing into it would spoil the cache."""
    cached, place = tmp_path / "cached", tmp_path / "out.json"
    cached.write_text("{}\n")
    os.link(cached, place)
    write_json(place, {"a": 1})
    assert cached.read_text() == "{}\n"
    assert place.read_text() == '{\n "a": 1\n}\n'


def test_what_a_killed_run_left_aside_is_cleared(tmp_path: Path):
    left = tmp_path / ".out.writing"
    left.mkdir()
    (left / "stale").touch()
    with atomic(tmp_path / "out") as aside:
        (aside / "new").touch()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({"a": 0.12345678}, {"a": 0.123457}),
        ({"a": {"b": [1.00000001, 2]}}, {"a": {"b": [1.0, 2]}}),
        ({"a": "x", "b": None, "c": True}, {"a": "x", "b": None, "c": True}),
    ],
)
def test_rounded_reaches_every_float_and_nothing_else(value: dict, expected: dict):
    assert rounded(value) == expected


def test_hash_depends_on_content_and_name_but_not_on_place_or_order(tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder / "x").mkdir(parents=True)
        (tmp_path / folder / "x" / "a").write_text("same")
    one, two = tmp_path / "one" / "x", tmp_path / "two" / "x"
    assert hash_paths([one]) == hash_paths([two])
    assert hash_paths([one, one / "a"]) == hash_paths([one / "a", one])
    (two / "a").rename(two / "b")
    assert hash_paths([one]) != hash_paths([two])
    (two / "b").rename(two / "a")
    (two / "a").write_text("other")
    assert hash_paths([one]) != hash_paths([two])
