"""The frame of a stage: what a person reads when a package is not installed."""

import argparse
import sys
from pathlib import Path

import pytest
import yaml

from stages._stage import MissingPackageError, Stage, Summary
from tests.stages.stage_runs import run_stage


def import_what_is_not_installed(stage: Stage) -> Summary:
    import torch_pruning_of_tomorrow.deep

    return Summary({}, torch_pruning_of_tomorrow.path)


def import_a_part_that_is_not_there(stage: Stage) -> Summary:
    import json.nothing

    return Summary({}, json.nothing.path)


def test_a_package_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage("train", import_what_is_not_installed, tmp_path, {}, monkeypatch) == 1
    assert capsys.readouterr().err == (
        "error: train needs what is not installed: torch_pruning_of_tomorrow; "
        "install it: python -m pip install -c constraints.txt torch_pruning_of_tomorrow\n"
    )


def test_a_missing_part_of_an_installed_package_is_a_bug_and_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"json\.nothing"):
        run_stage("train", import_a_part_that_is_not_there, tmp_path, {}, monkeypatch)


def test_need_names_all_that_is_missing_by_the_names_that_pip_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage("export", {}, argparse.Namespace(out=None))
    stage.need("json", "numpy")
    for module in ("onnx", "modelopt"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match="constraints.txt onnx nvidia-modelopt$"):
        stage.need("onnx", "modelopt")


def test_each_step_has_a_work_folder_of_its_own_that_hashes_its_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    declared = {"deps": ["models/${item}"], "params": [{"resolved.yaml": ["evaluate"]}]}
    stages = {"evaluate": {"foreach": ["train", "prune"], "do": declared}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for step in ("train", "prune"):
        Path("models", step).mkdir(parents=True)
        Path("models", step, "model.pt").write_text(step)

    def work(step: str, limit: int | None = None) -> Path:
        args = argparse.Namespace(out=None, step=step)
        return Stage("evaluate", {"evaluate": {"limit": limit}}, args).work_dir()

    first = work("train")
    assert first.parent == Path(".work/evaluate-train")
    assert work("prune").parent == Path(".work/evaluate-prune")
    assert work("train") == first
    assert work("train", limit=3) != first
    Path("models/train/model.pt").write_text("another")
    assert work("train") != first
