from pathlib import Path

import pytest

from stages.gesturenet.config import GESTURES
from stages.gesturenet.crop_folders import load_crop_folders, source_of
from stages.gesturenet.errors import GestureError
from stages.gesturenet.labelling.class_folders import write_class_folders
from stages.gesturenet.labelling.journal import PICTURES, read_journal
from tests.stages.gesturenet.labelling.samples import CLASSES, write_crops


def export(out: Path, folder: Path, labels: dict[str, str]) -> dict[str, int]:
    crops = read_journal(out).crops
    return write_class_folders(out, folder, crops, labels, classes=CLASSES)


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_only_crops_with_a_class_are_written(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=4)
    labels = {names[0]: "stop", names[1]: "discard", names[3]: "fist", "gone.jpg": "ok"}
    assert export(tmp_path / "out", tmp_path / "to", labels) == {"fist": 1, "stop": 1, "ok": 0}
    assert files_below(tmp_path / "to") == [f"fist/{names[3]}", f"stop/{names[0]}"]
    copied = (tmp_path / "to" / "stop" / names[0]).read_bytes()
    assert copied == (tmp_path / "out" / PICTURES / names[0]).read_bytes()


def test_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=2)
    for label in ("stop", "ok"):
        export(tmp_path / "out", tmp_path / "to", {names[0]: label})
    assert files_below(tmp_path / "to") == [f"ok/{names[0]}"]


@pytest.mark.parametrize("other", ["notes.txt", "fist/other_1_0.jpg", "ok/sub/clip_000000-0.jpg"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, other: str) -> None:
    names = write_crops(tmp_path / "out", num=1)
    file = tmp_path / "to" / other
    file.parent.mkdir(parents=True)
    file.write_bytes(b"kept")
    with pytest.raises(GestureError, match="no earlier export of these crops"):
        export(tmp_path / "out", tmp_path / "to", {names[0]: "ok"})
    assert files_below(tmp_path / "to") == [other]


def test_nothing_sorted_says_where_to_sort(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=2)
    with pytest.raises(GestureError, match="no crop of .* has been sorted, 2 are there"):
        export(tmp_path / "out", tmp_path / "to", {names[0]: "discard"})
    assert not (tmp_path / "to").exists()


def test_a_picture_that_is_gone_is_named_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=2)
    (tmp_path / "out" / PICTURES / names[1]).unlink()
    with pytest.raises(GestureError, match=f"{names[1]} is gone"):
        export(tmp_path / "out", tmp_path / "to", dict.fromkeys(names, "ok"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_trainer_reads_the_folders_and_finds_the_sources(tmp_path: Path) -> None:
    names = write_crops(tmp_path / "out", num=4)
    export(tmp_path / "out", tmp_path / "to", dict.fromkeys(names, "ok"))
    crops = load_crop_folders([tmp_path / "to"], size_px=32, ratio=1.4)
    assert [source_of(name) for name in crops.names] == ["clip"] * 4
    assert {GESTURES[class_id] for class_id in crops.class_id} == {"ok"}
