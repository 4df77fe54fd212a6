import os
from pathlib import Path

import pytest

from stages.download import run
from tests.stages.datasets.samples import files_below, write_samples
from tests.stages.stage_runs import run_stage


def test_a_folder_becomes_data_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_samples(tmp_path / "mine", ["CARDS_OFFICE_S_B"])
    dataset = {"kind": "egohands", "path": "mine"}
    assert run_stage("download", run, tmp_path, {"dataset": dataset}, monkeypatch) == 0
    assert files_below(tmp_path / "data/raw") == files_below(source)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("download: egohands data set, 1 videos, 2 images, ")
    assert last.endswith("data/raw")


def test_a_second_run_replaces_the_first_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        write_samples(tmp_path / name, [f"CARDS_OFFICE_{name}"])
        dataset = {"kind": "egohands", "path": name}
        run_stage("download", run, tmp_path, {"dataset": dataset}, monkeypatch)
    assert os.listdir(tmp_path / "data/raw/_LABELLED_SAMPLES") == ["CARDS_OFFICE_two"]
    assert os.listdir(tmp_path / "data") == ["raw"]


def test_a_failure_is_one_line_and_leaves_earlier_data_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/earlier").write_text("1")
    dataset = {"kind": "egohands", "path": "nowhere.zip"}
    assert run_stage("download", run, tmp_path, {"dataset": dataset}, monkeypatch) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert "nowhere.zip is not there" in errors[0]
    assert files_below(tmp_path / "data") == {"raw/earlier": b"1"}


def test_unreachable_addresses_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.datasets.fetch.time.sleep", lambda seconds: None)
    dataset = {"kind": "egohands", "urls": ["http://127.0.0.1:9/egohands_data.zip"]}
    assert run_stage("download", run, tmp_path, {"dataset": dataset}, monkeypatch) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "http://127.0.0.1:9/egohands_data.zip (" in last
    assert "set dataset.path" in last
    assert not (tmp_path / "data/raw").exists()
