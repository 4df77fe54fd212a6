"""The order of the phases; training and quantization themselves are tested elsewhere."""

import dataclasses
from typing import Any

import pytest

from stages.detectnet import retraining
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.retraining import retrain_model
from stages.detectnet.training import FitResult
from tests.stages.detectnet.pictures import POSTPROCESS, draw_samples
from tests.stages.detectnet.tiny import tiny_model

SAMPLES = draw_samples(6)
# Six pictures in batches of four are two steps an epoch: six steps.
FLOAT_FIT = FitConfig(epochs=3, batch_size=4)


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what takes long by notes of its order."""
    noted: list[str] = []

    def fit(model, *_samples, postprocess, work_dir, log, section, teacher):
        noted.append(f"fit taught {teacher.weight}" if teacher else "fit")
        return FitResult(model, [], {}, True)

    def quantize(model, _batches, config):
        noted.append(f"quantize {config.placement} {model.architecture.activation}")
        return model

    monkeypatch.setattr(retraining, "fit", fit)
    monkeypatch.setattr(retraining, "quantize_model", quantize)
    monkeypatch.setattr(
        retraining,
        "measure_batch_norm",
        lambda _model, batches: noted.append(f"{len([*batches])}"),
    )
    return noted


def run(teacher: DetectNet | None, **changes: object) -> retraining.Retrained:
    config = dataclasses.replace(RetrainConfig(float_fit=FLOAT_FIT), **changes)  # type: ignore[arg-type]
    return retrain_model(
        tiny_model(),
        SAMPLES,
        None,
        config,
        postprocess=POSTPROCESS,
        work_dir=None,
        teacher=teacher,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Six pictures are one batch of calibration: "1".
        ({"batch_norm_steps": 6}, ["1", "fit", "quantize fused relu", "fit"]),
        ({"batch_norm_steps": 7}, ["1", "fit", "1", "quantize fused relu", "fit"]),
        ({"batch_norm_images": 0}, ["fit", "quantize fused relu", "fit"]),
        ({"float_fit": None}, ["1", "quantize fused relu", "fit"]),
        (
            {"float_fit": None, "batch_norm_images": 0, "placement": "tao", "activation": "relu6"},
            ["quantize tao relu6", "fit"],
        ),
        (
            {"batch_norm_images": 0, "distill_weight": 0.25},
            ["fit taught 0.25", "quantize fused relu", "fit taught 0.25"],
        ),
    ],
)
def test_phases_follow_the_configuration(
    phases: list[str], changes: dict[str, object], expected: list[str]
) -> None:
    run(tiny_model(width=16), **changes)
    assert phases == expected


def test_the_float_network_is_left_as_it_was(phases: list[str]) -> None:
    model = tiny_model()
    config = RetrainConfig(float_fit=FLOAT_FIT, activation="relu6")
    retrained = retrain_model(model, SAMPLES, None, config, postprocess=POSTPROCESS, work_dir=None)
    assert model.architecture.activation == "relu"
    assert retrained.model.architecture.activation == "relu6"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "distill_weight is 0.5, but there is no network to imitate; give .*models/train"),
        (
            {"num_classes": 1, "input_wh": [96, 96]},
            "has num_classes 1, input_wh 96x96, .* num_classes 1, input_wh 96x64; expected equal",
        ),
        (
            {"num_classes": 2, "input_wh": [96, 64]},
            "has num_classes 2, input_wh 96x64, .* num_classes 1, .*; run dvc repro prune, or set",
        ),
    ],
    ids=["missing", "input", "classes"],
)
def test_a_teacher_that_does_not_fit_is_named(
    phases: list[str], shape: dict[str, Any] | None, message: str
) -> None:
    teacher = DetectNet(build_architecture(10, width=4, **shape)) if shape else None
    with pytest.raises(DetectNetError, match=message):
        run(teacher, distill_weight=0.5)
    assert phases == []
