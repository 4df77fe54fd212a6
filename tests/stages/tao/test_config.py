"""`backend=tao` in the configuration: NVIDIA's presets come along, one's own choice wins."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.core.cluster import Postprocess
from stages._config import ConfigError, compose, section_of
from stages._schema import BackendConfig
from stages.compose import check_backend, main
from stages.detectnet.compression_config import PruneConfig, RetrainConfig
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.tao.config import TaoConfig
from stages.tao.support import check_prune, check_retrain, check_train
from tests.stages.tao.project import ROOT


def choose(tmp_path: Path, **params: Any) -> None:
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**chosen, **params}))


def composed(tmp_path: Path, **params: Any) -> dict[str, dict[str, Any]]:
    choose(tmp_path, **params)
    return compose(tmp_path / "params.yaml", ROOT / "conf")


def test_the_backend_alone_chooses_what_tao_can_do(tmp_path: Path) -> None:
    found = composed(tmp_path, backend="tao", dataset="egohands")
    assert section_of(found, BackendConfig).is_tao
    postprocess = Postprocess(**found["postprocess"])
    check_train(section_of(found, ModelConfig), section_of(found, TrainConfig), postprocess)
    check_prune(section_of(found, PruneConfig))
    check_retrain(section_of(found, RetrainConfig), postprocess)
    check_backend(found)


def test_ones_own_choice_wins(tmp_path: Path) -> None:
    change = {"backend": {"tao": {"generation": "tao4", "gpus": 2}}}
    found = composed(tmp_path, backend="tao", model="resnet18", overrides=change)
    assert found["model"]["num_layers"] == 18
    assert found["backend"]["tao"]["generation"] == "tao4"
    assert found["train"]["epochs"] == 120


def test_the_file_of_the_backend_has_the_defaults_of_its_class(tmp_path: Path) -> None:
    found = composed(tmp_path, backend="tao")
    assert section_of(found, BackendConfig).tao == TaoConfig()


def test_the_open_backend_stays_the_default(tmp_path: Path) -> None:
    found = composed(tmp_path)
    assert not section_of(found, BackendConfig).is_tao
    assert found["model"]["width"] == 16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generation": "tao7"}, "known choices: tlt3, tao3, tao4, tao5, tao6"),
        ({"gpus": 2, "gpu_indices": [0]}, "expected one index per GPU"),
        ({"generation": "tlt3", "frames": "auto_resize"}, "which tlt3 lacks"),
        ({"overlap": 1.5}, "expected 0.0 to 1.0"),
        ({"evaluation_minimum_wh": [1]}, r"expected \[width, height\]"),
        ({"nothing": 1}, "known keys: "),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        composed(tmp_path, backend="tao", overrides={"backend": {"tao": change}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("retrain", "words"),
    [
        ({"weights": "fresh"}, "retrain.weights is fresh but retrain.float_fit is null; expected"),
        (
            {"weights": "fresh", "float_fit": {"epochs": 2}},
            "retrain.weights is fresh, but TAO trains the pruned network on .*; expected pruned",
        ),
    ],
)
def test_fresh_weights_are_refused_before_anything_is_trained(
    tmp_path: Path,
    retrain: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    choose(tmp_path, backend="tao", overrides={"retrain": retrain})
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{words}", line)
    assert not (tmp_path / "resolved.yaml").exists()


@pytest.mark.parametrize("retrain", ["default", "real"])
def test_the_open_backend_takes_fresh_weights(tmp_path: Path, retrain: str) -> None:
    found = composed(tmp_path, retrain=retrain, overrides={"retrain": {"weights": "fresh"}})
    check_backend(found)
    assert section_of(found, RetrainConfig).weights == "fresh"
