from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.datasets.errors import DatasetError
from stages.datasets.index import (
    GestureRow,
    IndexRow,
    find_image,
    read_gestures,
    read_index,
    read_stems,
    write_gestures,
    write_index,
    write_stems,
)
from tests.stages.datasets.samples import write_image

NAMES = st.text("abcXYZ019_-, \"'", min_size=1, max_size=8)
NUMBERS = st.integers(0, 5000)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(IndexRow, NAMES, NAMES, NUMBERS, NUMBERS, NUMBERS, st.booleans()),
        unique_by=lambda row: row.stem,
    )
)
def test_the_index_comes_back_sorted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[IndexRow]
) -> None:
    path = tmp_path_factory.getbasetemp() / "index.csv"
    write_index(path, rows)
    assert read_index(path) == sorted(rows)


def test_the_tables_look_as_documented(tmp_path: Path) -> None:
    write_index(tmp_path / "i.csv", [IndexRow("b_1", "b", 1, 64, 48, True)])
    assert (tmp_path / "i.csv").read_text() == (
        "stem,video,frame,width,height,train_only\nb_1,b,1,64,48,1\n"
    )
    rows = [GestureRow("b_1", 10, "ok"), GestureRow("b_1", 9, "two")]
    write_gestures(tmp_path / "g.csv", rows)
    assert (tmp_path / "g.csv").read_text() == "stem,row,gesture\nb_1,9,two\nb_1,10,ok\n"
    assert read_gestures(tmp_path / "g.csv") == rows[::-1]
    write_stems(tmp_path / "train.txt", ["b", "a"])
    assert (tmp_path / "train.txt").read_text() == "a\nb\n"
    assert read_stems(tmp_path / "train.txt") == ["a", "b"]


@pytest.mark.parametrize("text", ["", "stem,video\na,b\n", "stem,row,gesture\na,1\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DatasetError, match="run the convert stage again"):
        read_gestures(tmp_path / "g.csv")


def test_missing_files_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="run the convert stage"):
        read_index(tmp_path / "index.csv")
    with pytest.raises(DatasetError, match="run the split stage"):
        read_stems(tmp_path / "train.txt")


def test_images_are_found_whatever_their_suffix(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", seed=1)
    assert find_image(tmp_path, "a") == tmp_path / "images" / "a.png"
    with pytest.raises(DatasetError, match="has no picture"):
        find_image(tmp_path, "b")
