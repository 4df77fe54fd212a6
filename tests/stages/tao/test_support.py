"""Settings that TAO has no word for are refused, not dropped."""

import dataclasses
from typing import Any

import pytest

from deploy.core.cluster import Postprocess
from stages._config import section_of
from stages.detectnet.compression_config import PruneConfig, RetrainConfig
from stages.detectnet.config import ModelConfig, TrainConfig
from stages.tao.errors import TaoError
from stages.tao.support import check_prune, check_retrain, check_train
from tests.stages.tao.project import preset

POSTPROCESS = Postprocess(**preset("postprocess/tao"))
MODEL = ModelConfig(num_layers=34, width=64)


def section(cls: Any, name: str) -> Any:
    return section_of({name.partition("/")[0]: preset(name)}, cls)


def test_nvidias_presets_are_supported() -> None:
    check_train(MODEL, section(TrainConfig, "train/tao"), POSTPROCESS)
    check_prune(section(PruneConfig, "prune/tao"))
    check_retrain(section(RetrainConfig, "retrain/tao"), POSTPROCESS)


def test_the_open_backends_presets_are_named_key_by_key() -> None:
    with pytest.raises(TaoError, match=r"train.ema_decay is 0.99 \(TAO: 0.0\).* and \d more"):
        check_train(MODEL, section(TrainConfig, "train/default"), POSTPROCESS)
    with pytest.raises(TaoError, match=r"prune.params_frac is 0.4 \(TAO: null\)"):
        check_prune(section(PruneConfig, "prune/default"))
    with pytest.raises(TaoError, match=r"retrain.float_fit is set \(TAO: null\)"):
        check_retrain(section(RetrainConfig, "retrain/default"), POSTPROCESS)


def test_fresh_weights_are_refused() -> None:
    retrain = section(RetrainConfig, "retrain/tao")
    fresh = dataclasses.replace(retrain, weights="fresh", float_fit=retrain.qat_fit)
    with pytest.raises(TaoError, match=r"retrain.weights is fresh \(TAO: pruned\)"):
        check_retrain(fresh, POSTPROCESS)


def test_a_thin_network_is_refused() -> None:
    thin = dataclasses.replace(MODEL, width=16)
    with pytest.raises(TaoError, match=r"model.width is 16 \(TAO: 64\)"):
        check_train(thin, section(TrainConfig, "train/tao"), POSTPROCESS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("confidence_threshold", 1.5), ("min_samples", 2.0), ("inner_confidence", 0.75)],
)
def test_what_tao_s_validator_refuses_is_refused_before(name: str, value: float) -> None:
    odd = POSTPROCESS._replace(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(TaoError, match=f"postprocess.{name} is {value}"):
        check_train(MODEL, section(TrainConfig, "train/tao"), odd)
