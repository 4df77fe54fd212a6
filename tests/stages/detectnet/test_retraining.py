"""The order of the phases; training and quantization themselves are tested elsewhere."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.detectnet import retraining
from stages.detectnet.compression_config import RetrainConfig
from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.fit_state import clone_tensors
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.retraining import retrain_model
from stages.detectnet.training import FitResult
from tests.stages.detectnet.pictures import POSTPROCESS, draw_samples
from tests.stages.detectnet.tiny import tiny_model

SAMPLES = draw_samples(6)
# Six pictures in batches of four are two steps an epoch: six steps.
FLOAT_FIT = FitConfig(epochs=3, batch_size=4)


# Lightning Fabric asks for more workers or tunes threads; nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric")


@pytest.fixture
def phases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what takes long by notes of its order."""
    noted: list[str] = []

    def fit(model, *_samples, postprocess, work_dir, log, section, teacher):
        fading = f" fading over {teacher.fade_frac}" if teacher and teacher.fade_frac else ""
        noted.append(f"fit taught {teacher.weight}{fading}" if teacher else "fit")
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
        # Untrained weights have no statistics worth measuring.
        ({"weights": "fresh", "batch_norm_steps": 6}, ["fit", "quantize fused relu", "fit"]),
        ({"weights": "fresh", "batch_norm_steps": 7}, ["fit", "1", "quantize fused relu", "fit"]),
        (
            {"weights": "fresh", "activation": "relu6", "distill_weight": 0.25},
            ["fit taught 0.25", "1", "quantize fused relu6", "fit taught 0.25"],
        ),
        (
            {"batch_norm_images": 0, "distill_weight": 0.25, "distill_fade_frac": 0.5},
            ["fit taught 0.25 fading over 0.5", "quantize fused relu", "fit"],
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


def retrained_from(model: DetectNet, *, seed: int) -> DetectNet:
    """Retrain a shape from fresh weights, with phases that change nothing."""
    fits = {"float_fit": dataclasses.replace(FLOAT_FIT, seed=seed)}
    config = RetrainConfig(**fits, weights="fresh", activation="relu6")
    return retrain_model(
        model, SAMPLES, None, config, postprocess=POSTPROCESS, work_dir=None
    ).model


def test_fresh_weights_follow_from_shape_and_seed_alone(phases: list[str]) -> None:
    model = tiny_model()
    before = clone_tensors(model)
    fresh, other = retrained_from(model, seed=1), retrained_from(model, seed=2)
    torch.rand(3)
    again = retrained_from(DetectNet(model.architecture), seed=1)
    assert fresh.architecture == dataclasses.replace(model.architecture, activation="relu6")
    assert_equal(clone_tensors(model), before)
    assert_equal(clone_tensors(again), clone_tensors(fresh))
    for name in ("conv1.weight", "block_2a_conv_2.weight", "output_cov.weight"):
        assert not torch.equal(clone_tensors(fresh)[name], before[name])
        assert not torch.equal(clone_tensors(fresh)[name], clone_tensors(other)[name])


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("first", "second"), [("pruned", "fresh"), ("fresh", "pruned")])
def test_a_run_takes_up_no_state_of_the_other_weights(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shape and settings of both phases are equal; the float phase of the first is complete."""
    short = FitConfig(epochs=1, batch_size=4, accelerator="cpu", validate_every_epochs=0)
    config = RetrainConfig(float_fit=short, qat_fit=short)

    def float_phase(weights: str, work_dir: Path) -> dict[str, torch.Tensor]:
        found: list[dict[str, torch.Tensor]] = []

        def stop(model: DetectNet, *_: object) -> None:
            found.append(clone_tensors(model))
            raise KeyboardInterrupt

        monkeypatch.setattr(retraining, "quantize_model", stop)
        chosen = dataclasses.replace(config, weights=weights)
        with pytest.raises(KeyboardInterrupt):
            retrain_model(
                tiny_model(), SAMPLES, None, chosen, postprocess=POSTPROCESS, work_dir=work_dir
            )
        return found[0]

    undisturbed = float_phase(second, tmp_path / "alone")
    disturbing = float_phase(first, tmp_path / "shared")
    assert_equal(float_phase(second, tmp_path / "shared"), undisturbed)
    assert not torch.equal(disturbing["conv1.weight"], undisturbed["conv1.weight"])


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
