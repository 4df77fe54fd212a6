"""status.json, with NVIDIA's two traps."""

import json
from pathlib import Path

import pytest

from stages.tao.status import Progress, StatusFile, history_row

EPOCH = {"epoch": 0, "max_epoch": 2, "status": "RUNNING"}
GRAPH = {"graphical": {"loss": 0.5, "learning_rate": "5e-06"}}
KPI = {"kpi": {"mean average precision": 42.0, "validation cost": 0.01}}
EVALUATED = {"status": "RUNNING", "message": "Evaluation metrics generated."}


def progress_of(*records: dict) -> Progress:
    progress = Progress()
    progress.take(list(records))
    return progress


def test_no_record_is_no_success() -> None:
    assert not Progress().is_success


def test_an_epoch_counts_from_1_and_its_learning_rate_is_a_number() -> None:
    (row,) = progress_of({**EPOCH, **GRAPH}).rows.values()
    assert history_row(row) == {"epoch": 1, "loss": 0.5, "learning_rate": 5e-06}


def test_sticky_values_are_not_taken_again() -> None:
    progress = progress_of(
        {**EPOCH, **GRAPH},
        {**EVALUATED, **GRAPH, **KPI},
        {**EPOCH, "epoch": 1, "graphical": {"loss": 0.4, "learning_rate": "1e-05"}, **KPI},
        {"status": "RUNNING", "message": "Model saved.", **GRAPH, **KPI},
    )
    first, second = progress.rows.values()
    assert (first.mean_ap, second.mean_ap) == (0.42, None)
    assert second.loss == 0.4


def test_the_last_record_decides() -> None:
    progress = progress_of({"status": "SUCCESS"}, {"status": "FAILURE", "message": "no"})
    assert (progress.is_success, progress.message) == (False, "no")
    assert progress_of({"status": "FAILURE"}, {"status": "SUCCESS"}).is_success


def test_what_an_earlier_run_noted_is_kept_as_epochs_alone() -> None:
    progress = progress_of({**EPOCH, **GRAPH}, {"status": "SUCCESS"})
    progress.begin_again()
    assert not progress.is_success
    assert list(progress.rows) == [1]


def test_an_interrupted_training_that_reports_success_is_none() -> None:
    interrupted = {"status": "RUNNING", "message": "Training was interrupted"}
    progress = progress_of({**EPOCH, **GRAPH}, interrupted, {"status": "SUCCESS"})
    assert not progress.is_success
    progress.begin_again()
    progress.take([{"status": "SUCCESS"}])
    assert progress.is_success


def test_a_file_is_read_as_it_grows_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusFile(path)
    assert status.read_new() == []
    path.write_text(json.dumps(EPOCH) + '\n{"status": "SUC')
    assert status.read_new() == [EPOCH]
    with path.open("a") as stream:
        stream.write('CESS"}\nno json\n[]\n')
    assert status.read_new() == [{"status": "SUCCESS"}]
    assert status.read_new() == []


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(json.dumps({**EPOCH, **GRAPH}) + "\n")
    status = StatusFile(path)
    status.read_new()
    path.write_text('{"status": "STARTED"}\n')
    assert status.read_new() == [{"status": "STARTED"}]


@pytest.mark.parametrize("broken", ["NaN?", None, {}])
def test_a_value_that_is_no_number_is_left_out(broken: object) -> None:
    (row,) = progress_of({**EPOCH, "graphical": {"loss": broken}}).rows.values()
    assert history_row(row) == {"epoch": 1}
