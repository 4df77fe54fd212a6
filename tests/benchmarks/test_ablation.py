"""Ablations: settings, folds, what is left to run, and the table."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import ablation, drawn
from benchmarks.ablation import video_of
from benchmarks.drawn import draw_kitti
from stages._config import section_of
from stages.detectnet.config import TrainConfig

VARIANTS = Path(ablation.__file__).with_name("real.yaml")


def test_every_variant_of_the_file_is_a_valid_configuration() -> None:
    plan = yaml.safe_load(VARIANTS.read_text())
    resolved = {
        name: ablation.resolve({**plan["base"], **(changes or {})})
        for name, changes in plan["variants"].items()
    }
    configs = {name: section_of(sections, TrainConfig) for name, sections in resolved.items()}
    assert configs["base"].augment.paste_probability == 0.8
    assert configs["no pasting"].augment.paste_probability == 0.0
    assert configs["train=tao"].loss.coverage == "tao"
    assert resolved["base"]["model"]["width"] == 32
    others = [config for name, config in configs.items() if name != "no drawn hands"]
    assert len(set(map(str, others))) == len(others)


def test_table_by_hand() -> None:
    rows = [
        {"variant": "a", "video": video, "seed": seed, "ap50": value, "ap": 0.5, "ap75": 0.25}
        for video, seed, value in [("x", 0, 0.4), ("y", 0, 0.6), ("x", 1, 0.6), ("y", 1, 0.8)]
    ]
    unfinished = {"variant": "b", "video": "x", "seed": 0, "ap50": 1, "ap": 1, "ap75": 1}
    lines = ablation.format_table([*rows, unfinished]).splitlines()
    assert lines[2] == (
        "| a | 2 | 0.600 (0.500 to 0.700) | 0.500 (0.500 to 0.500) | 0.250 (0.250 to 0.250) |"
    )
    assert lines[3] == "| b | 0 | - | - | - |"


def test_runs_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own", tmp_path / "runs.jsonl"
    own.mkdir()
    monkeypatch.setattr(drawn, "VAL_VIDEOS", 1)
    monkeypatch.setattr(ablation, "THREADS_PER_WORKER", torch.get_num_threads())
    draw_kitti(own, train_videos=1)
    kept = {video_of(path.stem) for path in (own / "images").iterdir()}
    variants = tmp_path / "variants.yaml"
    base = {"train.epochs": 1, "model.width": 4, "model.input_wh": [64, 48]}
    variants.write_text(yaml.safe_dump({"base": base, "variants": {"plain": None}}))
    arguments = ["ablation", "--own", str(own), "--variants", str(variants), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds", "1"])
    monkeypatch.setattr(ablation.multiprocessing, "get_context", lambda _method: InThisProcess)
    assert ablation.main() == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 2
    assert {row["seed"] for row in rows} == {0}
    assert {row["video"] for row in rows} == kept
    assert ablation.main() == 0
    assert len(out.read_text().splitlines()) == 2
    monkeypatch.setattr(sys, "argv", ["ablation", "--out", str(out), "--table"])
    capsys.readouterr()
    assert ablation.main() == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| plain | 1 | 0.")


class InThisProcess:
    """A pool without processes."""

    Pool: type


class _Pool:
    def __init__(self, _workers: int) -> None:
        pass

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def imap_unordered(self, function: object, jobs: object) -> object:
        return map(function, jobs)  # type: ignore[call-overload]


InThisProcess.Pool = _Pool
