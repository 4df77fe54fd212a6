"""The unpruned network against the exported one, in every runtime of this machine."""

import json
from pathlib import Path

import pytest

from benchmarks import compression
from deploy.core.cluster import Postprocess
from stages.detectnet.checkpoint import save_model
from stages.detectnet.model import DetectNet, build_architecture
from tests.deploy.tiny_models import write_detector

POSTPROCESS = Postprocess("nms", 0.05, 0.3, 1.0, 0.6, "max", 0.8, 4.0)


def test_table_takes_the_median_round_and_divides_by_the_reference() -> None:
    rounds = {
        ("unpruned", "onnxruntime", "fp32"): [20.0, 40.0, 30.0],
        ("pruned", "openvino", "int8"): [3.0, 2.0, 1.0],
    }
    percentiles = {key: [{"p50_ms": each} for each in values] for key, values in rounds.items()}
    assert compression.format_table(percentiles).splitlines()[2:] == [
        "| unpruned | onnxruntime | fp32 | 30.0 (20.0 to 40.0) | 1.0 |",
        "| pruned | openvino | int8 | 2.0 (1.0 to 3.0) | 15.0 |",
    ]


def test_table_without_the_reference_has_no_ratio() -> None:
    percentiles = {("pruned", "openvino", "int8"): [{"p50_ms": 2.0}]}
    assert compression.format_table(percentiles).endswith("| 2.0 (2.0 to 2.0) | - |\n")


def test_measures_both_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "pin_process", lambda threads: None)
    (tmp_path / "train").mkdir()
    model = DetectNet(build_architecture(10, width=8, input_wh=[64, 32]))
    save_model(tmp_path / "train", model, postprocess=POSTPROCESS)
    write_detector(tmp_path / "export")
    places = {"train": tmp_path / "train", "export": tmp_path / "export"}
    arguments = [text for name, at in places.items() for text in (f"--{name}", str(at))]
    options = ["--rounds", "2", "--repeats", "1", "--out", str(tmp_path / "out.json")]

    assert compression.main([*arguments, *options]) == 0

    document = json.loads((tmp_path / "out.json").read_text())
    networks = {(row["network"], row["runtime"], row["precision"]) for row in document["rows"]}
    assert {compression.REFERENCE, ("unpruned", "openvino", "bf16")} <= networks
    assert ("pruned", "onnxruntime", "fp32") in networks
    assert all(len(row["rounds"]) == 2 for row in document["rows"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(networks)
