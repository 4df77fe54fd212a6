"""Every source is held out once, and measured on its own crops alone."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import gestures
from stages.gesturenet.crops import Crops
from stages.gesturenet.training import FitResult


def test_each_source_is_held_out_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, level in (("anna", 60), ("ben", 160)):
        for gesture in ("fist", "two"):
            for number in range(3):
                path = tmp_path / "crops" / gesture / f"{source}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((40, 40, 3), level, np.uint8))
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
