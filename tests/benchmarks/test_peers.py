"""The comparison with other detectors: rounds, figures, table, and what is not installed."""

import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import peer_worker, peers
from benchmarks.peer_contenders import Contender, PeerError, ask, measure, run_module
from deploy.frames import find_frames
from tests.deploy.kitti_folder import write_kitti_folder
from tests.deploy.tiny_models import write_classifier, write_detector


def contender(name: str, rates: list[float | None]) -> Contender:
    """One whose runs take so many frames per second in turn; None fails."""
    left = list(rates)

    def time() -> dict[str, Any]:
        rate = left.pop(0)
        if rate is None:
            raise PeerError(f"{name} broke")
        return {"fps": rate, "frames": 9}

    return Contender(name, "", time, None)


def test_rounds_begin_with_another_one_each_and_leave_out_who_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    contenders = [contender("a", [1, 2, 3]), contender("b", [4, None]), contender("c", [7, 8, 9])]
    runs, failed = peers.time_rounds(contenders, 3)
    assert [run["fps"] for run in runs["a"]] == [1, 2, 3]
    assert [run["fps"] for run in runs["c"]] == [7, 8, 9]
    assert failed == {"b": "b broke"}
    order = [line.split()[2] for line in capsys.readouterr().err.splitlines()]
    assert order == ["a", "b", "c", "c", "a", "c", "a"]


def test_precision_that_fails_costs_nobody_else_anything() -> None:
    def fail() -> dict[str, float]:
        raise PeerError("the weights know no class named hand")

    good = contender("a", [])._replace(detect=lambda: {"ap50": 0.5, "ap": 0.2})
    bad = contender("b", [])._replace(detect=fail)
    figures, unknown = peers.detect_all([good, bad, contender("c", [])])
    assert figures == {"a": {"ap50": 0.5, "ap": 0.2}, "b": {}, "c": {}}
    assert unknown == {"precision of b": "the weights know no class named hand"}


def test_row_has_the_median_the_range_and_blank_precisions() -> None:
    runs = [{"fps": rate, "frames": 9} for rate in (30.0, 10.0, 20.0)]
    row = peers.summarise(contender("a", []), runs, {})
    assert (row["fps_median"], row["fps_range"]) == (20.0, [10.0, 30.0])
    assert (row["ap50"], row["ap"]) == (None, None)
    assert peers.summarise(contender("a", []), runs, {"ap50": 0.5, "ap": 0.2})["ap50"] == 0.5


def test_table_compares_with_the_best_other_one_and_names_who_was_skipped() -> None:
    rows = [
        peers.summarise(contender(name, [])._replace(note="x"), [{"fps": fps, "frames": 9}], aps)
        for name, fps, aps in (
            ("ours", 90.0, {"ap50": 0.9, "ap": 0.5}),
            ("slow", 10.0, {}),
            ("quick", 40.0, {"ap50": 0.25, "ap": 0.1}),
        )
    ]
    document = {"contenders": rows, "skipped": {"z": "not there"}, "cores": 2}
    lines = peers.format_table({**document, "load_average": [0.1, 1.9]}).splitlines()
    assert lines[2] == "| ours (x) | 90.0 | 90.0 to 90.0 | 0.900 | 0.500 |"
    assert lines[3] == "| slow (x) | 10.0 | 10.0 to 10.0 |  |  |"
    assert any("2.25 times" in line for line in lines)
    assert lines[-1] == "skipped: z: not there"
    assert not any("Something else" in line for line in lines)
    busy = peers.format_table({**document, "load_average": [1.5, 1.9]})
    assert "Something else was running" in busy


def test_found_boxes_are_measured_on_the_labelled_frames(tmp_path: Path) -> None:
    folder = write_kitti_folder(tmp_path)
    frames = find_frames(folder / "images", folder / "labels", class_name="hand")
    right = {frame.stem: [[*box, 0.9] for box in frame.truth.tolist()] for frame in frames}
    assert measure(right, frames) == {"ap50": pytest.approx(1.0), "ap": pytest.approx(1.0)}
    wrong = {stem: [[500, 300, 510, 310, 0.9]] for stem in right}
    assert measure(wrong, frames)["ap50"] == 0
    assert measure({stem: [] for stem in right}, frames)["ap50"] == 0


def test_clip_repeats_the_labelled_frames_at_one_size(tmp_path: Path) -> None:
    folder = write_kitti_folder(tmp_path)
    frames = find_frames(folder / "images", folder / "labels", class_name="hand")
    path = peers.make_clip(tmp_path / "clip.mp4", frames, num_frames=7)
    images = list(peer_worker._read_video(str(path)))
    assert [image.shape for image in images] == [(720, 1280, 3)] * 7
    difference = cv2.absdiff(images[0], images[5]).mean()
    assert difference < 2 < cv2.absdiff(images[0], images[1]).mean()


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with peers.on_cores(1) as cores:
        assert cores == len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_worker_answers_and_its_failure_is_one_line() -> None:
    versions = ask(Path(sys.executable), do="versions")
    assert versions["numpy"] == np.__version__
    with pytest.raises(PeerError, match="no_such_task") as caught:
        ask(Path(sys.executable), do="no_such_task")
    assert "\n" not in str(caught.value)
    with pytest.raises(PeerError, match="No module named"):
        run_module(Path(sys.executable), ["no_such_module"], cwd=peers.ROOT)


def test_mediapipe_boxes_are_the_extremes_of_the_points() -> None:
    points = [SimpleNamespace(x=x, y=y) for x, y in ((0.5, 0.25), (0.25, 0.5), (0.75, 1.0))]
    result = SimpleNamespace(
        multi_hand_landmarks=[SimpleNamespace(landmark=points)],
        multi_handedness=[SimpleNamespace(classification=[SimpleNamespace(score=0.8)])],
    )
    network = SimpleNamespace(process=lambda image: result)
    image = np.zeros((100, 200, 3), np.uint8)
    assert peer_worker._boxes(network, image) == [[50, 25, 150, 100, 0.8]]
    nothing = SimpleNamespace(multi_hand_landmarks=None, multi_handedness=None)
    assert peer_worker._boxes(SimpleNamespace(process=lambda image: nothing), image) == []


def test_hand_is_the_class_of_that_name_or_the_only_one() -> None:
    assert peer_worker._hand_class({0: "thing"}) == 0
    assert peer_worker._hand_class({0: "person", 4: "hand"}) == 4
    with pytest.raises(SystemExit, match="no class named hand"):
        peer_worker._hand_class({0: "person", 1: "car"})


@pytest.mark.parametrize("pair", ["yolo11n", "yolo11n=nowhere.pt", "yolo99=x"])
def test_weights_that_are_not_there_are_a_usage_error(pair: str) -> None:
    with pytest.raises(SystemExit) as caught:
        peers.parse_arguments(["--weights", pair])
    assert caught.value.code == 2


@pytest.mark.parametrize("is_bundle", [False, True], ids=["folders", "bundle"])
def test_without_the_packages_ours_is_measured_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_bundle: bool
) -> None:
    kitti = write_kitti_folder(tmp_path / "kitti")
    models = [write_detector(tmp_path / "models/detector")]
    models.append(write_classifier(tmp_path / "models/gesture"))
    command = ["--detector", str(models[0]), "--gesture", str(models[1])]
    if is_bundle:
        shutil.copytree(peers.ROOT / "deploy", tmp_path / "deploy")
        command = ["--bundle", str(tmp_path)]
    command += ["--kitti", str(kitti), "--rounds", "2", "--frames", "12"]
    command += ["--peers", str(tmp_path / "python"), "--json", str(tmp_path / "out.json")]
    assert peers.main(command) == 0
    printed = capsys.readouterr().out
    assert (
        "skipped: YOLO11n: ultralytics is not installed; run: bash benchmarks/peers.sh" in printed
    )
    assert "skipped: MediaPipe Hands: mediapipe is not installed" in printed
    document = json.loads((tmp_path / "out.json").read_text())
    (row,) = document["contenders"]
    assert row["frames"] == 12
    assert row["ap50"] == pytest.approx(1.0)
    assert 0 < row["fps_range"][0] <= row["fps_median"] <= row["fps_range"][1]
    assert row["engines"]["detector"]["runtime"]
    assert "detect" in row["p50_ms"]


def test_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--detector", str(tmp_path / "none"), "--frames", "2", "--rounds", "1"]
    command += ["--clip", str(tmp_path / "none.mp4"), "--peers", str(tmp_path / "python")]
    assert peers.main(command) == 1
    assert capsys.readouterr().err.startswith("error: this project: error: ")


@pytest.mark.slow
@pytest.mark.skipif(not peers.PEERS_PYTHON.exists(), reason="run: bash benchmarks/peers.sh")
def test_real_peers_are_measured_beside_ours(tmp_path: Path) -> None:
    kitti = write_kitti_folder(tmp_path / "kitti")
    command = ["--detector", str(write_detector(tmp_path / "detector"))]
    command += ["--gesture", str(write_classifier(tmp_path / "gesture"))]
    command += ["--kitti", str(kitti), "--rounds", "1", "--frames", "8"]
    assert peers.main([*command, "--json", str(tmp_path / "out.json")]) == 0
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["skipped"] == {}
    rows = {row["name"]: row for row in document["contenders"]}
    assert sorted(rows) == ["MediaPipe Hands", "YOLO11n", "YOLO26n", "this project"]
    assert all(row["frames"] == 8 for row in rows.values())
    assert rows["YOLO11n"]["ap50"] is None  # random weights
    assert rows["MediaPipe Hands"]["ap50"] is not None
