from pathlib import Path

import pytest

from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.journal import (
    FILE_NAME,
    PICTURES,
    Settings,
    open_journal,
    read_journal,
)
from tests.stages.gesturenet.labelling.samples import CLASSES, SETTINGS, make_crop, write_crops


def test_what_was_added_is_read_again(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=3)
    content = read_journal(tmp_path / "out")
    assert content.settings.classes == CLASSES
    assert content.sources == {"/videos/clip.mp4": "clip"}
    assert [crop.name for crop in content.crops] == names
    assert content.crops[0] == make_crop(names[0], "fist")


def test_a_half_written_last_line_is_dropped_and_the_journal_goes_on(tmp_path: Path) -> None:
    write_crops(tmp_path, num=2)
    file = tmp_path / FILE_NAME
    whole = file.read_text()
    file.write_text(whole + '{"of":"clip","fra')
    assert len(read_journal(tmp_path).crops) == 2
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add_frame("clip", "000007", [])
    assert file.read_text() == whole + '{"of":"clip","frame":"000007","crops":[]}\n'


def test_a_frame_whose_picture_is_gone_is_forgotten(tmp_path: Path) -> None:
    names = write_crops(tmp_path, num=3)
    (tmp_path / PICTURES / names[1]).unlink()
    with open_journal(tmp_path, SETTINGS) as journal:
        assert [crop.name for crop in journal.content.crops] == [names[0], names[2]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(("a", "b"), SETTINGS.values), "has the classes fist, stop, ok, the model has"),
        (
            Settings(CLASSES, {"confidence": 0.5, "size_wh": (16, 16)}),
            r"was made with confidence 1\.0, now it is 0\.5",
        ),
    ],
)
def test_crops_of_other_settings_are_not_mixed(
    tmp_path: Path, settings: Settings, message: str
) -> None:
    write_crops(tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(GestureError, match=message), open_journal(tmp_path, settings):
        pass
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_folder_without_a_crop_takes_new_settings(tmp_path: Path) -> None:
    with open_journal(tmp_path, SETTINGS) as journal:
        journal.add_frame("clip", "000000", [])
    other = Settings(CLASSES, {"confidence": 0.1, "size_wh": [16, 16]})
    with open_journal(tmp_path, other) as journal:
        assert journal.content.frames == {}
    assert read_journal(tmp_path).settings == other


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with (
        pytest.raises(GestureError, match=r"not a folder of this tool \(it holds thesis\.txt\)"),
        open_journal(tmp_path, SETTINGS),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["", "\n", "{}\n", "[]\n", '{"tool":"x","schema":1}\n'])
def test_a_damaged_journal_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(GestureError, match="is damaged"):
        read_journal(tmp_path)


def test_no_journal_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(GestureError, match=r"holds no crops; make some: python -m"):
        read_journal(tmp_path)
