import csv
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deploy.core.model_json import check_sha256, read_model_json
from stages.datasets.index import (
    IndexRow,
    read_gestures,
    write_gestures,
    write_index,
)
from stages.datasets.render.config import RenderConfig
from stages.gesture import run
from tests.stages.datasets.file_server import serving
from tests.stages.gesturenet.samples import FRAME_WH, write_kitti
from tests.stages.stage_runs import run_stage

GESTURE = {
    "width": 4,
    "epochs": 1,
    "resolutions": [32],
    "accelerator": "cpu",
    "precision": "32-true",
    "num_calibration": 8,
    "context_px": 96,
}
DRAWN = {
    "image_wh": [320, 180],
    "train_videos": 2,
    "val_videos": 1,
    "test_videos": 1,
    "frames_per_video": 8,
}


def run_gesture(
    root: Path, gesture: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"gesture": {}}}))
    assert run_stage("gesture", run, root, {"gesture": gesture}, monkeypatch) == 0
    content: dict[str, object] = json.loads((root / "results" / "gesture.json").read_text())
    return content


def test_all_outputs_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kitti(tmp_path, num_frames=6)
    metrics = run_gesture(tmp_path, GESTURE, monkeypatch)
    assert metrics["trained_on"] == "dataset"
    assert (metrics["num_crops"], metrics["num_train_crops"]) == (12, 12)
    assert {"accuracy", "ece", "false_alarm_share", "macs", "params", "per_class"} <= set(metrics)
    folder = tmp_path / "models" / "gesture"
    check_sha256(folder, read_model_json(folder))
    results = tmp_path / "results" / "gesture"
    with (results / "confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["actual", "predicted"]
    assert len(rows) == 12
    history = (results / "history.csv").read_text().splitlines()
    assert history[0] == "epoch,loss,val_loss,val_accuracy"
    assert len(history) == 2
    assert (results / "confusion.png").stat().st_size > 1000
    assert (results / "reliability.png").stat().st_size > 1000
    assert (results / "samples.jpg").stat().st_size > 1000
    assert not (tmp_path / ".work" / "gesture").exists()
    assert capsys.readouterr().err.splitlines()[-1].startswith("gesture: 12 crops, ")


def test_more_hands_are_drawn_and_those_without_gestures_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kitti(tmp_path, num_frames=6)
    kitti = tmp_path / "data" / "kitti"
    stems = sorted(path.stem for path in (kitti / "images").iterdir())
    quiet = stems[-1]
    rows = [
        IndexRow(stem, "quiet" if stem == quiet else "loud", number, *FRAME_WH, False)
        for number, stem in enumerate(stems)
    ]
    write_index(kitti / "index.csv", rows)
    gestures = [row for row in read_gestures(kitti / "gestures.csv") if row.stem != quiet]
    write_gestures(kitti / "gestures.csv", gestures)
    drawn = {"videos": 1, "table_work_frac": 1.0, "share": 0.5}
    more = {**GESTURE, "drawn": drawn, "unlabelled_random": True}
    plain = run_gesture(tmp_path, GESTURE, monkeypatch)
    assert plain["num_train_crops"] == 6
    metrics = run_gesture(tmp_path, more, monkeypatch)
    assert metrics["num_train_crops"] > 6 + 6
    assert metrics["num_crops"] == plain["num_crops"]


def write_crops(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((60, 60, 3), 40 * number, np.uint8))


def test_crops_of_ones_own_are_added_by_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kitti(tmp_path, num_frames=6)
    write_crops(tmp_path / "own", "fist/anna_1.png", "fist/ben_1.png", "two/ben_2.png")
    folders = {"paths": [str(tmp_path / "own")], "test": ["ben"]}
    metrics = run_gesture(tmp_path, {**GESTURE, "folders": folders}, monkeypatch)
    assert (metrics["num_crops"], metrics["num_train_crops"]) == (14, 13)
    per_source = metrics["per_source"]
    assert isinstance(per_source, list)
    assert [(row["source"], row["num_crops"]) for row in per_source] == [
        ("ben", 2),
        ("dataset", 12),
    ]
    hits = sum(row["accuracy"] * row["num_crops"] for row in per_source)
    assert hits / 14 == pytest.approx(metrics["accuracy"], abs=1e-5)


def test_a_source_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kitti(tmp_path, num_frames=6)
    write_crops(tmp_path / "own", "fist/anna_1.png")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"gesture": {}}}))
    folders = {"paths": [str(tmp_path / "own")], "test": ["carl"]}
    section = {**GESTURE, "folders": folders}
    assert run_stage("gesture", run, tmp_path, {"gesture": section}, monkeypatch) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: gesture.folders names the source 'carl', known: anna"
    assert not (tmp_path / "models" / "gesture").exists()


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("fist/anna_1.png", 3, "is 3x3 pixels, expected 16 or more; remove it"),
        ("peace/anna_1.png", 40, "is no class; known: thumbs_up, fist, stop, ok, two, random"),
        ("fist/anna_1.txt", 0, "fist has no picture (.jpg, .jpeg, .png)"),
    ],
)
def test_bad_crops_of_ones_own_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    side: int,
    message: str,
) -> None:
    write_kitti(tmp_path, num_frames=6)
    path = tmp_path / "own" / name
    path.parent.mkdir(parents=True)
    if side:
        cv2.imwrite(str(path), np.zeros((side, side, 3), np.uint8))
    else:
        path.write_text("")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"gesture": {}}}))
    section = {**GESTURE, "folders": {"paths": [str(tmp_path / "own")]}}
    assert run_stage("gesture", run, tmp_path, {"gesture": section}, monkeypatch) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "results").exists()


def test_a_dataset_without_gestures_gets_a_model_trained_on_drawn_hands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kitti(tmp_path, num_frames=3, labelled=False)
    # The few small videos here do not always hold two gestures; this seed's do.
    metrics = run_gesture(tmp_path, {**GESTURE, "fallback": DRAWN}, monkeypatch)
    assert RenderConfig(**DRAWN).train_videos == 2  # type: ignore[arg-type]
    assert metrics["trained_on"] == "rendered"
    assert (tmp_path / "models" / "gesture" / "gesture.onnx").is_file()


def test_a_row_without_its_hand_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kitti(tmp_path, num_frames=3)
    for label in (tmp_path / "data" / "kitti" / "labels").iterdir():
        label.write_text("")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"gesture": {}}}))
    assert run_stage("gesture", run, tmp_path, {"gesture": GESTURE}, monkeypatch) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "has 0 lines, but gestures.csv names row 5" in error
    assert not (tmp_path / "models").exists()


ETLT = b"\0\0\0\0made up for tests, not NVIDIA's"


def gesturenet(**changes: object) -> dict[str, object]:
    return {
        "model": "gesturenet",
        "version": "deployable_v2.0.2",
        "roi": {"mode": "published"},
        **changes,
    }


def test_gesturenet_is_brought_encrypted_and_says_where_it_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    with serving() as server:
        server.body = ETLT
        metrics = run_gesture(tmp_path, gesturenet(urls=[server.url("/model.etlt")]), monkeypatch)
    assert metrics == {
        "encrypted": True,
        "gesturenet": "deployable_v2.0.2",
        "preprocess": "deepstream",
        "sha256": hashlib.sha256(ETLT).hexdigest(),
    }
    folder = tmp_path / "models" / "gesture"
    check_sha256(folder, read_model_json(folder))
    assert (folder / "gesturenet.etlt").read_bytes() == ETLT
    assert not list(folder.glob("*.onnx"))
    guide = (folder / "convert.md").read_text()
    assert (tmp_path / "results" / "gesture" / "convert.md").read_text() == guide
    can, cannot = caplog.messages[-2:]
    last = capsys.readouterr().err.splitlines()[-1]
    assert can.startswith("gesture: can be converted, on the device, on JetPack 4.4, 4.5 with tlt")
    assert cannot.startswith("gesture: cannot be converted on JetPack 6.0, 6.1, 6.2, 7.0")
    assert last.startswith("gesture: GestureNet deployable_v2.0.2, ")


def test_gesturenet_that_does_not_come_leaves_earlier_results_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.etlt").write_bytes(ETLT)
    run_gesture(tmp_path, gesturenet(path="model.etlt"), monkeypatch)
    before = (tmp_path / "models" / "gesture" / "model.json").read_bytes()
    (tmp_path / "other.etlt").write_bytes(b"<html>no model</html>")
    sections = {"gesture": gesturenet(path="other.etlt")}
    assert run_stage("gesture", run, tmp_path, sections, monkeypatch) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "other.etlt is no .etlt file" in error
    assert (tmp_path / "models" / "gesture" / "model.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["gesture"]
