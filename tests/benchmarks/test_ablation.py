"""Ablations: settings, folds, what is left to run, and the table."""

import dataclasses
import json
import queue
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import ablation, drawn
from benchmarks.ablation import video_of
from benchmarks.drawn import draw_kitti
from stages._config import section_of
from stages.detectnet.config import TrainConfig
from stages.detectnet.data import Samples
from stages.detectnet.model import DetectNet
from stages.detectnet.training import FitResult
from tests.stages.detectnet.pictures import draw_samples, write_kitti

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
    assert len(set(map(str, resolved.values()))) == len(resolved)


def test_variants_with_drawn_hands_first_see_about_as_many_pictures_as_the_base() -> None:
    plan = yaml.safe_load(VARIANTS.read_text())
    counts = {}
    for name in ("base", "drawn hands first, then real ones", "no drawn hands"):
        sections = ablation.resolve({**plan["base"], **(plan["variants"][name] or {})})
        data, epochs = sections["data"], sections["train"]["epochs"]
        # Two of three videos of 100 frames, 1,245 other frames, 4 frames per drawn video.
        real, drawn_frames = 200 * data["repeat_own"] + 1245, 4 * data["drawn_videos"]
        proper = real + (drawn_frames if data["drawn_after"] else 0)
        counts[name] = epochs * proper + data["drawn_first_epochs"] * drawn_frames
    assert list(counts.values()) == [25_960, 25_960, 26_585]


def test_drawn_first_needs_drawn_videos() -> None:
    with pytest.raises(ValueError, match=r"drawn_first_epochs is 2 but data\.drawn_videos is 0"):
        ablation.resolve({"data.drawn_first_epochs": 2})


@pytest.mark.parametrize(("after", "images"), [(True, 2 * 3 + 1 * 6), (False, 2 * 3 + 1 * 3)])
def test_drawn_frames_first_and_with_the_others_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, images: int
) -> None:
    samples = draw_samples(6)  # frames 0, 2, 4 of V0 and 1, 3, 5 of V1
    write_kitti(tmp_path / "own", samples)
    drawn_stems = tuple(f"TRAIN_{stem}" for stem in samples.stems)
    place = ablation.drawn_folder(tmp_path, 0.0)
    write_kitti(place, dataclasses.replace(samples, stems=drawn_stems))
    runs = []

    def fit(
        model: DetectNet, train: Samples, val: Samples | None, config: TrainConfig, **options: Any
    ) -> FitResult:
        before = model.conv1.weight.detach().clone()
        result = real_fit(model, train, val, config, **options)
        runs.append((train, val, config.epochs, before, model.conv1.weight.detach().clone()))
        return result

    real_fit = ablation.fit
    monkeypatch.setattr(ablation, "fit", fit)
    settings = ablation.resolve(
        {
            "train.epochs": 1,
            "model.width": 4,
            "model.input_wh": [96, 64],
            "data.drawn_videos": 1,
            "data.drawn_first_epochs": 2,
            "data.drawn_after": after,
        }
    )
    folders = {"own": str(tmp_path / "own"), "extra": None, "drawn": str(tmp_path)}
    row = ablation.run_job(ablation.Job("drawn first", settings, "V0_frame", 0, folders))
    (drawn_alone, no_val, first_epochs, _, learnt), (train, val, epochs, start, _) = runs
    assert drawn_alone.stems == drawn_stems[::2]
    assert (no_val, first_epochs, epochs) == (None, 2, 1)
    assert torch.equal(start, learnt)
    assert train.stems == samples.stems[1::2] + (drawn_stems[::2] if after else ())
    assert val is not None
    assert val.stems == samples.stems[::2]
    assert row["images"] == images


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
    Queue = queue.SimpleQueue


class _Pool:
    def __init__(self, *_arguments: object) -> None:
        pass

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def imap_unordered(self, function: object, jobs: object) -> object:
        return map(function, jobs)  # type: ignore[call-overload]


InThisProcess.Pool = _Pool
