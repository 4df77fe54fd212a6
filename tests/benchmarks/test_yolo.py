"""The same frames for another detector: its labels, which frames count, and a missing package."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import yolo
from tests.deploy.kitti_folder import write_kitti_folder


def test_lines_have_centre_and_size_as_fractions() -> None:
    boxes = np.array([[0.0, 0.0, 100.0, 50.0], [50.0, 10.0, 70.0, 30.0]])
    assert yolo.yolo_lines(boxes, image_wh=(200, 100)) == [
        "0 0.250000 0.250000 0.500000 0.500000",
        "0 0.300000 0.200000 0.100000 0.200000",
    ]
    assert yolo.yolo_lines(np.zeros((0, 4)), image_wh=(200, 100)) == []


def test_drawn_and_repeated_frames_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("b_0001\nTRAIN_x_0001\nb_0001\na_0002\nVAL_y_0003\n")
    assert yolo.real_stems(path) == ["a_0002", "b_0001"]


def test_data_folder_has_every_frame_with_its_boxes(tmp_path: Path) -> None:
    write_kitti_folder(tmp_path)
    stems = sorted(path.stem for path in (tmp_path / "images").iterdir())
    yolo.write_data(tmp_path / "out", tmp_path, stems)
    assert sorted(path.stem for path in (tmp_path / "out" / "images").iterdir()) == stems
    for stem in stems:
        lines = (tmp_path / "out" / "labels" / f"{stem}.txt").read_text().splitlines()
        assert len(lines) == len(yolo.true_boxes(tmp_path, stem))


def test_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    assert yolo.main(["--kitti", str(tmp_path), "--split", str(tmp_path)]) == 1
    assert "pip install ultralytics" in capsys.readouterr().err
