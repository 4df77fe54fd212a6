from pathlib import Path

import pytest
import yaml

from stages._config import section_of
from stages.detectnet.compression_config import (
    CalibrationConfig,
    ExportConfig,
    PruneConfig,
    RetrainConfig,
    SensitivityConfig,
)
from stages.detectnet.config import TrainConfig, to_plain

CONF = Path(__file__).parents[3] / "conf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PruneConfig(threshold=0.1), "exactly one of them"),
        (lambda: PruneConfig(params_frac=None), "exactly one of them"),
        (lambda: PruneConfig(flops=0.25), "exactly one of them"),
        (lambda: PruneConfig(params_frac=1.5), "prune.params_frac is 1.5"),
        (lambda: PruneConfig(params_frac=None, flops=-0.1), "prune.flops is -0.1"),
        (lambda: PruneConfig(importance="l1"), "known choices: l2, l2_bn"),
        (lambda: PruneConfig(equalization="sum"), "known choices: union, intersection"),
        (lambda: SensitivityConfig(images=-1), "prune.sensitivity.images is -1"),
        (lambda: SensitivityConfig(kept_fracs=[]), r"kept_fracs is \[\]; expected different"),
        (lambda: SensitivityConfig(kept_fracs=[0.5, 0.5]), r"kept_fracs is \[0.5, 0.5\]"),
        (lambda: SensitivityConfig(kept_fracs=[0.5, 1.5]), "kept_fracs is 1.5; expected 0.0 to"),
        (lambda: CalibrationConfig(method="mse"), "known choices: max, percentile, entropy"),
        (lambda: CalibrationConfig(images=0), "calibration.images is 0"),
        (lambda: RetrainConfig(weights="new"), "retrain.weights is 'new'.*choices: pruned, fresh"),
        (
            lambda: RetrainConfig(weights="fresh", float_fit=None),
            "retrain.weights is fresh but retrain.float_fit is null; expected .* or .* pruned",
        ),
        (lambda: RetrainConfig(activation="gelu"), "known choices: relu, relu6"),
        (lambda: RetrainConfig(placement="trt"), "known choices: fused, tao"),
        (lambda: RetrainConfig(weight_axis="row"), "known choices: channel, tensor"),
        (lambda: RetrainConfig(range_rule="lsq"), "known choices: calibrated, moving_average"),
        (lambda: RetrainConfig(range_decay=1.0), "retrain.range_decay is 1.0"),
        (lambda: RetrainConfig(batch_norm_steps=-1), "retrain.batch_norm_steps is -1"),
        (lambda: RetrainConfig(distill_weight=1.5), "retrain.distill_weight is 1.5; expected 0.0"),
        (lambda: RetrainConfig(distill_fade_frac=-0.5), "retrain.distill_fade_frac is -0.5"),
        (
            lambda: RetrainConfig(distill_fade_frac=0.5, float_fit=None),
            "retrain.distill_fade_frac is above 0 but retrain.float_fit is null; expected a",
        ),
        (lambda: ExportConfig(tensorrt_version="8.5"), "expected major.minor.patch"),
    ],
)
def test_wrong_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tao_retrains_as_it_trained_and_rounds_nvidias_way():
    """The demo's retrain spec has the numbers of its train spec; single precision is ours."""
    retrain = section_of(
        {"retrain": yaml.safe_load((CONF / "retrain" / "tao.yaml").read_text())}, RetrainConfig
    )
    train = section_of(
        {"train": yaml.safe_load((CONF / "train" / "tao.yaml").read_text())}, TrainConfig
    )
    assert retrain.weights == "pruned"
    assert retrain.float_fit is None
    assert to_plain(retrain.qat_fit) == {**to_plain(train), "precision": "32-true"}
    assert (retrain.activation, retrain.placement, retrain.weight_axis) == (
        "relu6",
        "tao",
        "tensor",
    )
    assert (retrain.range_rule, retrain.range_decay) == ("moving_average", 0.999)
    assert not retrain.fold_batch_norm
    assert not retrain.quantize_heads
    assert retrain.batch_norm_images == 0
    assert retrain.distill_weight == retrain.distill_fade_frac == 0.0


def test_the_shipped_defaults_are_the_classes_defaults():
    retrain = yaml.safe_load((CONF / "retrain" / "default.yaml").read_text())
    assert section_of({"retrain": retrain}, RetrainConfig) == RetrainConfig()
    prune = yaml.safe_load((CONF / "prune" / "default.yaml").read_text())
    export = yaml.safe_load((CONF / "export" / "default.yaml").read_text())
    assert section_of({"prune": prune}, PruneConfig) == PruneConfig()
    assert ExportConfig(**export) == ExportConfig()


def test_quantized_phase_is_short_and_single_precision():
    config = RetrainConfig()
    assert config.float_fit is not None
    assert config.qat_fit.epochs < config.float_fit.epochs
    assert config.qat_fit.precision == "32-true"
