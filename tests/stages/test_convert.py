import json
from pathlib import Path

import pytest

from stages.convert import run
from tests.stages.datasets.samples import files_below, label, write_kitti, write_samples
from tests.stages.stage_runs import run_stage

EGOHANDS = {"dataset": {"kind": "egohands"}}


def test_data_kitti_and_the_report_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_samples(tmp_path / "data/raw", ["CARDS_OFFICE_S_B", "CHESS_OFFICE_S_B"])
    assert run_stage("convert", run, tmp_path, EGOHANDS, monkeypatch) == 0
    report = json.loads((tmp_path / "results/convert.json").read_text())
    assert (report["images"], report["boxes"], report["videos"]) == (4, 4, 2)
    boxes = {row["video"]: row["boxes"] for row in report["per_video"]}
    assert boxes == {"CARDS_OFFICE_S_B": 2, "CHESS_OFFICE_S_B": 2}
    assert len(list((tmp_path / "data/kitti/labels").iterdir())) == 4
    assert "convert: 4 images, 4 boxes" in capsys.readouterr().err


def test_a_run_after_a_kill_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_samples(tmp_path / "data/raw", ["CARDS_OFFICE_S_B", "CHESS_OFFICE_S_B"])
    run_stage("convert", run, tmp_path, EGOHANDS, monkeypatch)
    whole = files_below(tmp_path / "data/kitti")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stages.datasets.convert.write_gestures", die)
        with pytest.raises(KeyboardInterrupt):
            run_stage("convert", run, tmp_path, EGOHANDS, patch)
    half_written = tmp_path / "data/.kitti.writing"  # what a kill -9 leaves
    half_written.mkdir()
    (half_written / "rest").write_text("1")
    assert run_stage("convert", run, tmp_path, EGOHANDS, monkeypatch) == 0
    assert files_below(tmp_path / "data/kitti") == whole
    assert not half_written.exists()


@pytest.mark.parametrize("broken", ["polygons", "frame", "columns"])
def test_broken_input_is_one_line_with_status_1(
    broken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = "kitti" if broken == "columns" else "egohands"
    raw = tmp_path / "data/raw"
    write_samples(raw, ["CARDS_OFFICE_S_B"])
    video = raw / "_LABELLED_SAMPLES" / "CARDS_OFFICE_S_B"
    if broken == "polygons":
        (video / "polygons.mat").unlink()
    elif broken == "frame":
        (video / "frame_0011.jpg").write_bytes(b"\xff\xd8\xff")
    else:
        write_kitti(raw, {"a_1": label(1, 1, 9, 9)[:-6] + "\n"})
    assert run_stage("convert", run, tmp_path, {"dataset": {"kind": kind}}, monkeypatch) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: data/raw/")
    assert list((tmp_path / "data").iterdir()) == [raw]


def test_missing_input_names_the_stage_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("convert", run, tmp_path, EGOHANDS, monkeypatch) == 1
    assert "data/raw is not there" in capsys.readouterr().err
