"""Pruned against trained from scratch, in its smallest form."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import drawn, pruning, scratch
from benchmarks.ablation import video_of
from benchmarks.drawn import draw_kitti, list_stems
from stages.detectnet.checkpoint import load_float_model, save_model
from stages.detectnet.model import DetectNet, build_architecture
from tests.stages.detectnet.tiny import POSTPROCESS

RESOLVED = Path(__file__).parents[2] / "resolved.yaml"


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
        "pruned and trained on, imitating by 0.5",
        "pruned and trained on",
        "that shape from scratch",
    ]
    assert {row["video"] for row in rows} == kept
    params = [row["params"] for row in rows[:4]]
    assert params[0] > params[1] == params[2] == params[3]
    assert pruning.main() == 0
    assert len(out.read_text().splitlines()) == 8


def test_that_shape_is_trained_for_both_trainings_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kitti, split, shape = tmp_path / "data/kitti", tmp_path / "data/split", tmp_path / "shape"
    for folder in (kitti, split, shape):
        folder.mkdir(parents=True)
    monkeypatch.setattr(drawn, "VAL_VIDEOS", 1)
    draw_kitti(kitti, train_videos=1)
    for side in ("train", "val"):
        (split / f"{side}.txt").write_text("\n".join(list_stems(kitti, side)))
    architecture = build_architecture(10, width=16, input_wh=[64, 48], all_projections=True)
    save_model(shape, DetectNet(architecture), postprocess=POSTPROCESS)
    (tmp_path / "resolved.yaml").write_bytes(RESOLVED.read_bytes())
    monkeypatch.chdir(tmp_path)
    counts = ["train.epochs=1", "retrain.float_fit.epochs=2"]
    assert scratch.main(["--shape", str(shape), "--out", "made", *counts]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["epochs"] == 3
    assert 0 <= figures["ap50"] <= 1
    assert load_float_model(tmp_path / "made").architecture == architecture
