import json
import shutil
from pathlib import Path

import pytest

from stages import convert
from stages.split import run
from tests.stages.datasets.samples import label, write_kitti, write_samples
from tests.stages.stage_runs import run_stage

SECTIONS = {"dataset": {"kind": "egohands"}, "split": {}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw = write_samples(tmp_path / "data/raw", ["TRAIN_A_1", "TRAIN_B_2", "VAL_C_1", "TEST_D_1"])
    write_kitti(raw / "extra_train" / "0", {"x": label(1, 1, 9, 9)})
    sections = {"dataset": {"kind": "egohands", "extra_train": ["more"]}}
    assert run_stage("convert", convert.run, tmp_path, sections, monkeypatch) == 0
    return tmp_path


def test_lists_and_counts_are_written(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("split", run, root, SECTIONS, monkeypatch) == 0
    lists = {path.stem: path.read_text().split() for path in (root / "data/split").glob("*.txt")}
    assert lists == {
        "train": [
            "EXTRA0_x",
            "TRAIN_A_1_frame_0011",
            "TRAIN_A_1_frame_0022",
            "TRAIN_B_2_frame_0011",
            "TRAIN_B_2_frame_0022",
        ],
        "val": ["VAL_C_1_frame_0011", "VAL_C_1_frame_0022"],
        "test": ["TEST_D_1_frame_0011", "TEST_D_1_frame_0022"],
    }
    assert json.loads((root / "results/split.json").read_text()) == {
        "train": {"images": 5, "boxes": 5, "videos": 3},
        "val": {"images": 2, "boxes": 2, "videos": 1},
        "test": {"images": 2, "boxes": 2, "videos": 1},
    }
    assert "split: 5 train images, 2 val images, 2 test images" in capsys.readouterr().err


def test_the_hash_stands_for_every_picture_and_label(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def split_again() -> str:
        assert run_stage("split", run, root, SECTIONS, monkeypatch) == 0
        return (root / "data/split/frames.sha256").read_text()

    first = split_again()
    assert split_again() == first
    labels = root / "data/kitti/labels/TRAIN_A_1_frame_0011.txt"
    labels.write_text(labels.read_text().replace("hand", "foot"))
    second = split_again()
    image = root / "data/kitti/images/TRAIN_A_1_frame_0011.jpg"
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content + b"\0")
    assert len({first, second, split_again()}) == 3


def test_a_leak_stops_the_stage_and_writes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = root / "data/kitti/images"
    (images / "TEST_D_1_frame_0011.jpg").unlink()
    shutil.copy(images / "TRAIN_A_1_frame_0011.jpg", images / "TEST_D_1_frame_0011.jpg")
    assert run_stage("split", run, root, SECTIONS, monkeypatch) == 1
    assert "are the same picture" in capsys.readouterr().err
    assert not (root / "data/split").exists()
