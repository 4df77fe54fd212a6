"""The presets in conf/ and the checks of the sections."""

from pathlib import Path

import pytest
import yaml

from stages._config import section_of
from stages.detectnet.config import (
    AugmentConfig,
    FitConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    to_plain,
)

CONF = Path(__file__).parents[3] / "conf"


def read(path: str, cls: type) -> object:
    values = yaml.safe_load((CONF / path).read_text())
    return section_of({path.split("/")[0]: values}, cls)


def test_default_preset_is_what_the_code_defaults_to() -> None:
    assert read("train/default.yaml", TrainConfig) == TrainConfig()


def test_presets_spell_out_every_key() -> None:
    known = to_plain(TrainConfig())
    for path in sorted((CONF / "train").glob("*.yaml")):
        values = yaml.safe_load(path.read_text())
        assert set(values) == set(known), path
        for name, inner in known.items():
            if isinstance(inner, dict):
                assert set(values[name]) == set(inner), (path, name)


def test_tao_preset_has_the_demos_constants() -> None:
    config = read("train/tao.yaml", TrainConfig)
    assert isinstance(config, TrainConfig)
    assert (config.epochs, config.batch_size, config.learning_rate) == (120, 4, 5e-4)
    assert config.schedule == ScheduleConfig("soft_start_annealing", 0.1, 0.7, 5e-6)
    assert config.loss.coverage_foreground_weight == 0.05
    assert (config.loss.bbox_weight, config.loss.autoweighting) == (10.0, True)
    assert config.loss.regularizer_l1 == 3e-9
    assert config.augment.hue_rotation_max == 25.0
    assert not config.augment.clip_boxes


@pytest.mark.parametrize("name", ["tiny", "resnet10", "resnet18", "resnet34"])
def test_model_presets(name: str) -> None:
    config = read(f"model/{name}.yaml", ModelConfig)
    assert isinstance(config, ModelConfig)
    assert config.num_layers == int(name[6:] or 10) if name != "tiny" else 10
    assert config.pretrained is None
    assert set(yaml.safe_load((CONF / f"model/{name}.yaml").read_text())) == set(to_plain(config))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(num_layers=50), "model.num_layers is 50; known choices: 10, 18, 34"),
        (lambda: ModelConfig(input_wh=[320, 200]), "multiples of 16"),
        (lambda: ModelConfig(input_wh=[320]), "expected .width, height."),
        (lambda: OptimizerConfig(name="sgd"), "optimizer.name is 'sgd'; known choices: adam"),
        (lambda: ScheduleConfig(annealing=0.05), "schedule.annealing is 0.05"),
        (lambda: LossConfig(coverage="l2"), "loss.coverage is 'l2'"),
        (lambda: LossConfig(coverage_weight=0.0, bbox_weight=0.0), "must be above 0"),
        (lambda: AugmentConfig(zoom_min=1.5, zoom_max=1.2), "augment.zoom_min is 1.5"),
        (lambda: AugmentConfig(hflip_probability=1.5), "augment.hflip_probability is 1.5"),
        (lambda: FitConfig(epochs=0), "epochs is 0; expected 1 to"),
        (lambda: FitConfig(learning_rate=float("nan")), "learning_rate is nan"),
        (lambda: FitConfig(precision="fp8"), "precision is 'fp8'"),
        (lambda: FitConfig(select="first"), "select is 'first'"),
    ],
)
def test_bad_values_name_the_key_and_the_range(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
