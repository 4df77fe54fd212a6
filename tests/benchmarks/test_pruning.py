"""Pruned against trained from scratch, in its smallest form."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import drawn, pruning
from benchmarks.ablation import video_of
from benchmarks.drawn import draw_kitti
from benchmarks.pruning import (
    FULL,
    NAMES,
    RETRAIN_RATE,
    Contender,
    list_variants,
    start_contender,
)
from stages.detectnet.config import TrainConfig
from stages.detectnet.model import build_network
from tests.stages.detectnet.tiny import tiny_model

SHARES = [0.0, 0.5]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The benchmark on two drawn videos, of which one is held out, an epoch a training."""
    own, variants = tmp_path / "own", tmp_path / "variants.yaml"
    own.mkdir()
    monkeypatch.setattr(drawn, "VAL_VIDEOS", 1)
    draw_kitti(own, train_videos=1)
    base = {"model.width": 24, "model.input_wh": [64, 48], "train.batch_size": 4}
    variants.write_text(yaml.safe_dump({"base": base}))
    counts = ["--epochs", "1", "--retrain-epochs", "1", "--seeds", "1", "--flops", "0.6"]
    held_out = ["--videos", min(video_of(path.stem) for path in (own / "images").iterdir())]
    return ["pruning", "--own", str(own), "--variants", str(variants), *counts, *held_out]


def test_all_contenders_have_one_shape(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs.jsonl"
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
    assert pruning.main() == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["variant"] for row in rows] == [*list_variants(["full", *NAMES], SHARES)]
    assert {row["video"] for row in rows} == {command[-1]}
    full, *others = [row["params"] for row in rows]
    assert len(others) == 6
    assert {*others} == {others[0]}
    assert others[0] < full


def test_only_missing_rows_are_made(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs.jsonl"
    chosen = [*command, "--out", str(out), "--distill", "0.5", "--networks"]
    monkeypatch.setattr(sys, "argv", [*chosen, "short"])
    assert pruning.main() == 0
    first = out.read_text()
    assert json.loads(first)["variant"] == (
        "that shape from scratch, as short as retraining, imitating by 0.5"
    )
    monkeypatch.setattr(sys, "argv", [*chosen, "full", "short"])
    assert pruning.main() == 0
    assert [json.loads(line)["variant"] for line in out.read_text().splitlines()[1:]] == [FULL]
    assert out.read_text().startswith(first)
    monkeypatch.setattr(pruning, "load_fold", lambda *_: pytest.fail("nothing is missing"))
    assert pruning.main() == 0
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("networks", "distill", "expected"),
    [
        (["full"], SHARES, [FULL]),
        (["short", "full"], [0.0], [FULL, "that shape from scratch, as short as retraining"]),
        (
            ["pruned"],
            [0.9, 0.0],
            ["pruned and trained on, imitating by 0.9", "pruned and trained on"],
        ),
        (["scratch"], [0.5], ["that shape from scratch, imitating by 0.5"]),
    ],
)
def test_rows_are_named_in_the_tables_order(
    networks: list[str], distill: list[float], expected: list[str]
) -> None:
    assert [*list_variants(networks, distill)] == expected


def test_each_share_of_imitation_comes_with_each_fade() -> None:
    rows = list_variants(["scratch"], [0.0, 0.5], [0.0, 0.25])
    assert {name: contender and contender[1:] for name, contender in rows.items()} == {
        "that shape from scratch": (0.0, 0.0),
        "that shape from scratch, imitating by 0.5": (0.5, 0.0),
        "that shape from scratch, imitating by 0.5, fading over 0.25": (0.5, 0.25),
    }


@pytest.mark.parametrize(
    ("kind", "epochs", "rate", "is_fresh"),
    [("pruned", 5, RETRAIN_RATE, False), ("scratch", 12, 0.1, True), ("short", 5, 0.1, True)],
)
def test_contenders_see_the_pictures_that_their_names_promise(
    kind: str, epochs: int, rate: float, is_fresh: bool
) -> None:
    pruned = tiny_model()
    config = TrainConfig(epochs=7, learning_rate=0.1, seed=3)
    student, later = start_contender(Contender(kind, 0.0), pruned, config, retrain_epochs=5)
    assert (later.epochs, later.learning_rate, later.seed) == (epochs, rate, 3)
    assert student.architecture == pruned.architecture
    assert student is not pruned
    expected = build_network(pruned.architecture, seed=3) if is_fresh else pruned
    assert torch.equal(student.output_bbox.weight, expected.output_bbox.weight)
