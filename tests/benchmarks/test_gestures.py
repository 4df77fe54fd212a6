"""Every source is held out once, and measured on its own crops alone."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import gestures
from deploy.core.roi import RoiRule
from stages.datasets.index import IndexRow, write_index
from stages.gesturenet.config import GESTURES
from stages.gesturenet.crops import Crops
from stages.gesturenet.errors import GestureError
from stages.gesturenet.metrics import confusion_matrix
from stages.gesturenet.training import FitResult
from tests.stages.gesturenet.samples import FRAME_WH, write_kitti

RULE = RoiRule(mode="ratio", ratio=1.4, square=True, border="pad")


def write_crops(folder: Path) -> None:
    for source, level in (("anna", 60), ("ben", 160)):
        for gesture in ("fist", "two"):
            for number in range(3):
                path = folder / gesture / f"{source}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((40, 40, 3), level, np.uint8))


def test_each_source_is_held_out_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crops(tmp_path / "crops")
    trained: list[Crops] = []

    def fit(train: Crops, *arguments: object, **options: object) -> FitResult:
        trained.append(train)
        return real_fit(train, *arguments, **options)  # type: ignore[arg-type]

    real_fit = gestures.fit
    monkeypatch.setattr(gestures, "fit", fit)
    out = tmp_path / "rows.jsonl"
    arguments = ["--crops", str(tmp_path / "crops"), "--out", str(out)]
    assert gestures.main([*arguments, "gesture.epochs=1", "gesture.batch_size=4"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["source"] for row in rows] == ["anna", "ben"]
    assert [{name[:3] for name in train.names} for train in trained] == [{"ben"}, {"ann"}]
    for row in rows:
        assert row["crops"] == np.sum(row["confusion"]) == 6
        assert set(row["recall"]) == {"fist", "two"}
        assert row["accuracy"] == pytest.approx(np.trace(row["confusion"]) / 6, abs=1e-4)


def test_hands_without_gestures_are_trained_on_and_measured(tmp_path: Path) -> None:
    write_crops(tmp_path / "crops")
    write_kitti(tmp_path, num_frames=3, labelled=False)
    kitti = tmp_path / "data" / "kitti"
    stems = sorted(path.stem for path in (kitti / "images").iterdir())
    rows = [IndexRow(stem, f"video {n}", 0, *FRAME_WH, False) for n, stem in enumerate(stems)]
    write_index(kitti / "index.csv", rows)
    config = gestures.load_config("real", ["gesture.drawn.videos=1", "gesture.width=4"])
    assert (config.unlabelled_random, config.drawn.videos, config.width) == (True, 1, 4)
    held_out = gestures.split_hands(kitti, config, RULE)
    assert [(len(hands.train.names), len(hands.test.names)) for hands in held_out if hands] == [
        (12, 6)
    ] * 3
    (one,) = gestures.split_hands(kitti, config, RULE, video="video 1")
    assert one is not None
    assert held_out[1] is not None
    assert one.test.names == held_out[1].test.names
    with pytest.raises(GestureError, match="video 0, video 1, video 2"):
        gestures.split_hands(kitti, config, RULE, video="video 9")
    out = tmp_path / "rows.jsonl"
    arguments = ["--crops", str(tmp_path / "crops"), "--out", str(out), "--preset", "real"]
    arguments += ["--answers", str(tmp_path / "answers")]
    small = ["drawn.videos=1", "width=4", "epochs=1", "batch_size=8", "context_px=64"]
    overrides = [f"gesture.{each}" for each in small]
    assert gestures.main([*arguments, "--hands", str(kitti), *overrides]) == 0
    for line in out.read_text().splitlines():
        row = json.loads(line)
        assert 0.0 <= row["sure_alarms"] <= row["false_alarms"] <= 1.0
        assert 0.0 <= row["smoothed_alarms"] <= 1.0
        with np.load(tmp_path / "answers" / f"{row['source']}_{row['seed']}.npz") as answers:
            confusion = confusion_matrix(
                answers["class_id"], answers["logits"].argmax(axis=1), num_classes=6
            )
            assert confusion.tolist() == row["confusion"]
            alarms = answers["hands_logits"].argmax(axis=1) != GESTURES.index("random")
            assert alarms.mean() == pytest.approx(row["false_alarms"], abs=1e-4)
            assert len(answers["hands_names"]) == len(answers["hands_boxes"]) == len(alarms)


def test_drawn_crops_are_kept_and_named_sources_alone_are_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_crops(tmp_path / "crops")
    cache, out = tmp_path / "drawn.npz", tmp_path / "rows.jsonl"
    arguments = ["--crops", str(tmp_path / "crops"), "--preset", "real", "--sources", "ben"]
    arguments += ["--cache", str(cache), "--out", str(out)]
    small = ["drawn.videos=1", "width=4", "epochs=1", "batch_size=8", "context_px=64"]
    arguments += [f"gesture.{each}" for each in small]
    assert gestures.main([*arguments, "--draw-only"]) == 0
    assert cache.exists()
    assert not out.exists()

    def draw(*_arguments: object, **_options: object) -> Crops:
        raise AssertionError("they are in the cache")

    monkeypatch.setattr(gestures, "draw_crops", draw)
    assert gestures.main(arguments) == 0
    assert [json.loads(line)["source"] for line in out.read_text().splitlines()] == ["ben"]
    monkeypatch.setattr(gestures, "hash_paths", lambda _paths: "another")
    with pytest.raises(GestureError, match=r"drawn\.npz"):
        gestures.main(arguments)
