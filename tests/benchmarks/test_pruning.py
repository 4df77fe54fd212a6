"""Pruned against trained from scratch, in its smallest form."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import drawn, pruning
from benchmarks.ablation import video_of
from benchmarks.drawn import draw_kitti


def test_both_networks_have_one_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, out = tmp_path / "own", tmp_path / "runs.jsonl"
    own.mkdir()
    monkeypatch.setattr(drawn, "VAL_VIDEOS", 1)
    draw_kitti(own, train_videos=1)
    kept = {video_of(path.stem) for path in (own / "images").iterdir()}
    base = {"model.width": 24, "model.input_wh": [64, 48]}
    variants = tmp_path / "variants.yaml"
    variants.write_text(yaml.safe_dump({"base": base}))
    arguments = ["--own", str(own), "--variants", str(variants), "--out", str(out)]
    counts = ["--epochs", "1", "--retrain-epochs", "1", "--seeds", "1", "--flops", "0.6"]
    monkeypatch.setattr(sys, "argv", ["pruning", *arguments, *counts])
    assert pruning.main() == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["variant"] for row in rows[:4]] == [
        "full width",
        "pruned and trained on",
        "pruned and trained on, imitating",
        "that shape from scratch",
    ]
    assert {row["video"] for row in rows} == kept
    params = [row["params"] for row in rows[:4]]
    assert params[0] > params[1] == params[2] == params[3]
    assert pruning.main() == 0
    assert len(out.read_text().splitlines()) == 8
