"""The training loop: it learns, resumes exactly, and stops with a reason."""

import dataclasses
import functools
import re
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from stages.detectnet import training
from stages.detectnet.config import AugmentConfig, FitConfig, LossConfig, OptimizerConfig
from stages.detectnet.data import Samples
from stages.detectnet.distillation import Teacher
from stages.detectnet.errors import DetectNetError
from stages.detectnet.feed import Shard, epoch_order
from stages.detectnet.fit_state import CHECKPOINT
from stages.detectnet.folding import trunk_convs
from stages.detectnet.model import DetectNet, Outputs, build_architecture
from stages.detectnet.training import FitResult, fit, is_validated
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples
from tests.stages.detectnet.tiny import tiny_model

SHORT = FitConfig(
    epochs=4,
    batch_size=4,
    precision="32-true",
    accelerator="cpu",
    ema_decay=0.9,
    validate_every_epochs=2,
    loss=LossConfig(autoweighting=True),
)
SAMPLES = draw_samples(10)


def new_model() -> DetectNet:
    torch.manual_seed(3)
    return DetectNet(build_architecture(10, width=4, input_wh=list(INPUT_WH)))


def train(
    config: FitConfig,
    *,
    work_dir: Path | None = None,
    model: nn.Module | None = None,
    samples: Samples = SAMPLES,
    log: training.Log | None = None,
    teacher: Teacher | None = None,
) -> FitResult:
    return fit(
        model or new_model(),
        samples,
        samples,
        config,
        postprocess=POSTPROCESS,
        work_dir=work_dir,
        log=log,
        teacher=teacher,
    )


def assert_equal_results(first: FitResult, second: FitResult) -> None:
    assert first.history == second.history
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def kill_after(epochs: int) -> training.Log:
    """Make a log that dies while it is told of a later epoch, before that epoch is saved."""

    def log(_metrics: object, step: int) -> None:
        if step > epochs:
            raise KeyboardInterrupt

    return log


@pytest.mark.parametrize(
    "config",
    [
        SHORT,
        dataclasses.replace(SHORT, select="best", optimizer=OptimizerConfig(name="adam")),
        dataclasses.replace(SHORT, ema_decay=0.0, freeze_batch_norm=True),
    ],
    ids=["muon", "adam-best", "frozen"],
)
def test_resumed_run_equals_an_uninterrupted_one(config: FitConfig, tmp_path: Path) -> None:
    whole = train(config)
    with pytest.raises(KeyboardInterrupt):
        train(config, work_dir=tmp_path, log=kill_after(2))
    steps: list[int] = []
    resumed = train(config, work_dir=tmp_path, log=lambda _metrics, step: steps.append(step))
    assert_equal_results(whole, resumed)
    assert steps == [1, 2, 3, 4]


def test_resumed_run_with_a_teacher_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    teacher = Teacher(tiny_model(), 0.5)
    whole = train(SHORT, teacher=teacher)
    with pytest.raises(KeyboardInterrupt):
        train(SHORT, work_dir=tmp_path, log=kill_after(2), teacher=teacher)
    assert_equal_results(whole, train(SHORT, work_dir=tmp_path, teacher=teacher))
    assert whole.history != train(SHORT).history


def test_finished_run_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(SHORT, epochs=1)
    first = train(config, work_dir=tmp_path)
    monkeypatch.setattr(training, "_train_epoch", None)
    assert_equal_results(first, train(config, work_dir=tmp_path))


def test_checkpoint_of_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, epochs=1)
    train(dataclasses.replace(config, learning_rate=1e-3), work_dir=tmp_path)
    assert_equal_results(train(config), train(config, work_dir=tmp_path))


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    with pytest.raises(DetectNetError, match="not a checkpoint.*remove it"):
        train(SHORT, work_dir=tmp_path)


def test_four_pictures_are_learnt_by_heart() -> None:
    config = dataclasses.replace(
        SHORT,
        epochs=60,
        learning_rate=2e-2,
        ema_decay=0.5,
        validate_every_epochs=0,
        augment=AugmentConfig(enabled=False),
        loss=LossConfig(),
    )
    model = DetectNet(build_architecture(10, width=8, input_wh=list(INPUT_WH)))
    samples = draw_samples(4)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.2
    history = train(config, model=model, samples=samples).history
    metrics = training.validate(model, samples, POSTPROCESS, device=torch.device("cpu"))
    assert history[-1]["loss"] < 0.4 * history[0]["loss"]
    assert metrics["ap50"] > 0.95


def test_history_and_log_tell_the_same() -> None:
    seen: dict[int, dict[str, float]] = {}
    result = train(SHORT, log=lambda metrics, step: seen.update({step: dict(metrics)}))
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert [row["epoch"] for row in result.history if "val_ap50" in row] == [2, 4]
    assert seen[4]["train/loss"] == result.history[3]["loss"]
    assert seen[4]["val/ap50"] == result.metrics["ap50"]
    assert seen[4]["train/images_per_s"] > 0
    assert set(result.metrics) == {"ap", "ap50", "ap75"}
    first = result.history[0]
    weighed = 0.5 * first["coverage_loss"] + 0.5 * first["bbox_loss"]
    assert first["loss"] == pytest.approx(weighed, rel=1e-5)
    assert result.history[1]["coverage_weight"] != 0.5


@pytest.mark.parametrize(
    ("every", "expected"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])]
)
def test_validated_epochs(every: int, expected: list[int]) -> None:
    config = dataclasses.replace(SHORT, epochs=5, validate_every_epochs=every)
    assert [epoch for epoch in range(1, 6) if is_validated(epoch, config)] == expected


def test_best_weights_are_those_of_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.9, 0.4])
    models = []

    def score(model: nn.Module, *_: object, **__: object) -> dict[str, float]:
        models.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"ap": 0.0, "ap50": next(scores), "ap75": 0.0}

    monkeypatch.setattr(training, "validate", score)
    config = dataclasses.replace(SHORT, epochs=3, validate_every_epochs=1, select="best")
    result = train(config)
    assert result.metrics["ap50"] == 0.9
    state = result.model.state_dict()
    assert all(torch.equal(state[name], models[1][name]) for name in state)


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    model = new_model()
    norm = model.get_submodule("bn_conv1")
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    train(dataclasses.replace(SHORT, epochs=1, freeze_batch_norm=True), model=model)
    assert all(torch.equal(norm.state_dict()[name], before[name]) for name in before)


def biased_model() -> DetectNet:
    """A network whose biases in front of batch normalisation are far from 0."""
    model = new_model()
    for name in trunk_convs(model):
        nn.init.normal_(model.get_parameter(f"{name}.bias"), std=0.3)
    return model


def test_biases_in_front_of_batch_norm_are_left_out_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SGD-like steps: Adam would make steps of the rounding errors that are those gradients."""
    optimizer = OptimizerConfig(name="adam", epsilon=1.0)
    config = dataclasses.replace(SHORT, epochs=2, learning_rate=1e-2, optimizer=optimizer)
    absorbed = train(config, model=biased_model())
    monkeypatch.setattr(training, "absorb_biases_inplace", lambda _model: False)
    ordinary = train(config, model=biased_model())
    for found, expected in zip(absorbed.history, ordinary.history, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    images = torch.from_numpy(SAMPLES.images).permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        for found, expected in zip(absorbed.model(images), ordinary.model(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert isinstance(absorbed.model, DetectNet)
    for name in trunk_convs(absorbed.model):
        bias = absorbed.model.get_parameter(f"{name}.bias")
        assert bias.requires_grad
        assert float(bias.detach().abs().max()) == 0.0


def test_biases_in_front_of_frozen_batch_norm_learn() -> None:
    model = biased_model()
    before = model.get_parameter("conv1.bias").detach().clone()
    train(dataclasses.replace(SHORT, epochs=1, freeze_batch_norm=True), model=model)
    assert not torch.equal(model.get_parameter("conv1.bias"), before)
    assert float(model.get_parameter("conv1.bias").detach().abs().max()) > 0.0


def test_l1_pulls_unused_weights_to_zero() -> None:
    """A first layer that cannot matter (its normalisation is 0) is moved by L1 alone."""
    model = new_model()
    nn.init.zeros_(model.get_submodule("bn_conv1").weight)
    model.get_submodule("bn_conv1").requires_grad_(False)
    before = model.get_submodule("conv1").weight.detach().abs().sum()
    config = dataclasses.replace(
        SHORT,
        epochs=1,
        ema_decay=0.0,
        loss=LossConfig(regularizer_l1=1e-3),
        optimizer=OptimizerConfig(name="adam"),
    )
    train(config, model=model)
    assert model.get_submodule("conv1").weight.detach().abs().sum() < before


class Diverging(DetectNet):
    """A network whose outputs are no numbers for one picture, from some training step on."""

    def __init__(self, picture: torch.Tensor, *, healthy_steps: int) -> None:
        super().__init__(build_architecture(10, width=4, input_wh=list(INPUT_WH)))
        self.picture, self.steps_left = picture, healthy_steps

    def forward(self, images: torch.Tensor) -> Outputs:
        outputs = super().forward(images)
        self.steps_left -= self.training
        is_cursed = (images == self.picture).flatten(1).all(dim=1)
        if self.steps_left < 0 and is_cursed.any():
            return Outputs(outputs.coverage * float("nan"), outputs.bbox)
        return outputs


def test_loss_that_is_no_number_names_step_and_frames_and_keeps_the_checkpoint(
    tmp_path: Path,
) -> None:
    """Ten pictures in batches of four are three steps an epoch; the fourth step is in epoch 2."""
    picture = torch.from_numpy(SAMPLES.images[7]).float().mul(1 / 255).permute(2, 0, 1)
    config = dataclasses.replace(SHORT, augment=AugmentConfig(enabled=False))
    model = Diverging(picture, healthy_steps=3)
    with pytest.raises(DetectNetError) as caught:
        train(config, model=model, work_dir=tmp_path)
    message = str(caught.value)
    found = re.fullmatch(
        r"the loss became nan at step (\d) of epoch 2, with the frames (.*); the checkpoint of "
        r"epoch 1 is kept; look at those frames, lower learning_rate .*",
        message,
    )
    assert found, message
    order = epoch_order(10, batch_size=4, shard=Shard(0, 1), seed=config.seed, epoch=1)
    batch = [SAMPLES.stems[index] for index in order[int(found[1]) - 1].tolist()]
    assert found[2] == ", ".join(batch)
    assert SAMPLES.stems[7] in batch
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["epoch"] == 1


def test_long_batches_name_a_few_frames() -> None:
    config = dataclasses.replace(SHORT, batch_size=10, augment=AugmentConfig(enabled=False))
    picture = torch.from_numpy(SAMPLES.images[0]).float().mul(1 / 255).permute(2, 0, 1)
    with pytest.raises(DetectNetError, match="and 6 more; no epoch was finished"):
        train(config, model=Diverging(picture, healthy_steps=0))


@pytest.mark.parametrize("freeze_batch_norm", [False, True])
def test_compiled_training_is_the_same_training(
    freeze_batch_norm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's tracing is real here; "eager" runs what it traced without generating code."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    config = dataclasses.replace(SHORT, freeze_batch_norm=freeze_batch_norm)
    compiled = train(dataclasses.replace(config, compile=True))
    assert_equal_results(compiled, train(config))


class Watched(DetectNet):
    """A teacher that notes how it is asked, and whose memory is short from some batch size on."""

    asked: ClassVar[set[tuple[bool, bool, bool]]] = set()
    largest_batch = 100

    def forward(self, images: torch.Tensor) -> Outputs:
        if len(images) > self.largest_batch:
            raise RuntimeError("CUDA error: out of memory")
        self.asked.add(
            (self.training, torch.is_grad_enabled(), torch.is_autocast_enabled(images.device.type))
        )
        return super().forward(images)


def watched_teacher() -> Watched:
    torch.manual_seed(5)
    return Watched(build_architecture(10, width=8, input_wh=list(INPUT_WH)))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_teacher_stays_as_it_is_and_is_asked_without_gradients(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watched, "asked", set())
    teacher = watched_teacher()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    config = dataclasses.replace(SHORT, epochs=1, precision=precision)
    train(config, teacher=Teacher(teacher, 0.5))
    assert Watched.asked == {(False, False, precision == "bf16-mixed")}
    assert teacher.training
    assert all(each.requires_grad and each.grad is None for each in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_teacher_without_weight_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "asked", set())
    result = train(SHORT, teacher=Teacher(watched_teacher(), 0.0))
    assert_equal_results(result, train(SHORT))
    assert Watched.asked == set()


def test_loss_is_the_weighed_sum_and_the_terms_are_against_the_truth() -> None:
    """The only step starts from the same weights, whatever the teacher's share is."""
    config = dataclasses.replace(SHORT, epochs=1, batch_size=len(SAMPLES))
    rows = [
        train(config, teacher=Teacher(tiny_model(), weight)).history[0]
        for weight in (0.0, 0.25, 1.0)
    ]
    terms = {(row["coverage_loss"], row["bbox_loss"]) for row in rows}
    truth, mixed, imitation = (row["loss"] for row in rows)
    assert len(terms) == 1
    assert truth != imitation
    assert mixed == pytest.approx(0.75 * truth + 0.25 * imitation, rel=1e-6)


def test_the_batch_size_that_fits_is_tried_with_the_teacher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The student alone would fit with half the batch, 4."""
    monkeypatch.setattr(Watched, "largest_batch", 3)
    config = dataclasses.replace(SHORT, batch_size=8)
    with pytest.raises(DetectNetError, match=r"epoch 1 with batch_size 8: .* 2 fits \(tried\)"):
        train(config, teacher=Teacher(watched_teacher(), 0.5))


def test_training_needs_no_tracker() -> None:
    """`tracking=off` must run where neither mlflow nor dvc is installed."""
    import subprocess

    code = (
        "import sys, stages.train\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'mlflow', 'dvc', 'hydra'}\n"
        "sys.exit(f'imported {sorted(found)}' if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
