"""What a teacher's maps become, and that a network learns them."""

import dataclasses

import pytest
import torch
from torch import nn

from stages.detectnet.config import FitConfig, LossConfig, OptimizerConfig
from stages.detectnet.distillation import (
    Teacher,
    ask_teacher,
    frozen_copy,
    imitation_losses,
    teacher_targets,
)
from stages.detectnet.losses import compute_losses
from stages.detectnet.model import DetectNet, Outputs, build_architecture
from stages.detectnet.targets import Targets
from stages.detectnet.training import FitResult, fit
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, STILL, draw_samples
from tests.stages.detectnet.tiny import tiny_images, tiny_model

NAN = float("nan")
SAMPLES = draw_samples(8)
IMITATION = FitConfig(
    epochs=2,
    batch_size=4,
    precision="32-true",
    accelerator="cpu",
    ema_decay=0.0,
    validate_every_epochs=0,
    augment=STILL,
    # Boxes of untrained networks have no area, which GIoU is about.
    loss=LossConfig(bbox="normalized"),
)


def cells(*values: float) -> torch.Tensor:
    """One picture of one row."""
    return torch.tensor(values).reshape(1, 1, 1, -1)


def new_student() -> DetectNet:
    torch.manual_seed(3)
    return DetectNet(build_architecture(10, width=4, input_wh=list(INPUT_WH)))


def imitate(
    student: nn.Module,
    teacher: nn.Module,
    config: FitConfig,
    *,
    weight: float = 1.0,
    fade_frac: float = 0.0,
) -> FitResult:
    """Train with the teacher's targets, alone unless weight is less."""
    return fit(
        student,
        SAMPLES,
        None,
        config,
        postprocess=POSTPROCESS,
        work_dir=None,
        teacher=Teacher(teacher, weight, fade_frac),
    )


@pytest.mark.parametrize(
    ("coverage", "bbox", "wanted_coverage", "wanted_bbox"),
    [
        ([0.0], [7.0], [0.0], [0.0]),
        ([0.25], [7.0], [0.0], [0.0]),  # at the threshold
        ([0.5], [7.0], [0.5], [7.0]),
        ([1.0], [-7.0], [1.0], [-7.0]),
        ([0.125, 0.75], [1.0, 2.0], [0.0, 0.75], [0.0, 2.0]),
        ([NAN, 0.125], [1.0, NAN], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_covered_cells_are_kept_and_the_others_are_empty(
    coverage: list[float],
    bbox: list[float],
    wanted_coverage: list[float],
    wanted_bbox: list[float],
) -> None:
    outputs = Outputs(cells(*coverage), cells(*bbox).expand(1, 4, 1, -1))
    targets = teacher_targets(outputs, coverage_threshold=0.25)
    assert targets.coverage.tolist() == cells(*wanted_coverage).tolist()
    assert targets.bbox.tolist() == cells(*wanted_bbox).expand(1, 4, 1, -1).tolist()
    assert targets.bbox_weight.tolist() == cells(*wanted_coverage).tolist()


def test_the_four_sides_of_a_cell_stay_apart() -> None:
    bbox = torch.arange(8.0).reshape(1, 4, 1, 2) + 1.0
    targets = teacher_targets(Outputs(cells(0.9, 0.01), bbox))
    assert targets.bbox[0, :, 0].tolist() == [[1.0, 0.0], [3.0, 0.0], [5.0, 0.0], [7.0, 0.0]]


@pytest.mark.parametrize("shape", [(2, 0, 0), (0, 4, 6), (2, 4, 6)])
def test_a_teacher_that_sees_nothing_gives_empty_maps(shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    seen = Outputs(
        torch.full((count, 1, height, width), 0.05), torch.ones(count, 4, height, width)
    )
    for values, channels in zip(teacher_targets(seen), (1, 4, 1), strict=True):
        assert values.shape == (count, channels, height, width)
        assert not values.any()


def test_targets_of_targets_are_the_same_and_the_maps_stay() -> None:
    with torch.no_grad():
        outputs = tiny_model()(tiny_images())
    before = Outputs(*(values.clone() for values in outputs))
    once = teacher_targets(outputs, coverage_threshold=0.4)
    twice = teacher_targets(Outputs(once.coverage, once.bbox), coverage_threshold=0.4)
    assert 0 < once.coverage.count_nonzero() < once.coverage.numel()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(once, twice, strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs, before, strict=True))


@pytest.mark.parametrize("coverage_target", ["ellipse", "iou"])
def test_what_the_teacher_says_of_coverage_counts_whatever_the_truth_is(
    coverage_target: str,
) -> None:
    outputs = Outputs(cells(0.8, 0.1), torch.ones(1, 4, 1, 2))
    targets = Targets(cells(0.75, 0.0), torch.full((1, 4, 1, 2), 2.0), cells(0.75, 0.0))
    terms = imitation_losses(
        outputs, targets, LossConfig(coverage_target=coverage_target, bbox="normalized")
    )
    # -(0.75 ln 0.8 + 0.25 ln 0.2) in the covered cell and -ln 0.9 in the empty one, half of each.
    # The IoU of the boxes, whose sides are 2 and 4 long, would be 0.25.
    assert terms.coverage.item() == pytest.approx(0.5 * 0.569717 + 0.5 * 0.105361, abs=1e-4)
    # Each side is 1 off; the weights' sum counts as 1 at least.
    assert terms.bbox.item() == pytest.approx(0.75)


def test_a_frozen_copy_is_another_network_and_gives_no_gradient() -> None:
    model = tiny_model().train()
    copied = frozen_copy(model)
    assert model.training
    assert not copied.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    targets = ask_teacher(Teacher(model.eval(), 0.5), tiny_images())
    assert not any(values.requires_grad for values in targets)


def test_a_student_equal_to_its_teacher_has_no_box_loss_and_stays() -> None:
    """Boxes alone are weighed; batch normalisation is frozen, so that both compute the same."""
    config = dataclasses.replace(
        IMITATION,
        freeze_batch_norm=True,
        loss=LossConfig(coverage_weight=0.0, bbox="normalized"),
        optimizer=OptimizerConfig(name="adam"),
    )
    teacher = tiny_model()
    result = imitate(tiny_model(), teacher, config)
    assert [row["loss"] for row in result.history] == [0.0, 0.0]
    assert all(row["bbox_loss"] > 0.0 for row in result.history), "against the truth"
    ours, theirs = result.model.state_dict(), teacher.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("fade_frac", "shares"),
    [
        (0.0, [0.5, 0.5, 0.5, 0.5, 0.5]),
        (0.5, [0.5, 0.5, 0.5, 0.25, 0.0]),
        (0.25, [0.5, 0.5, 0.5, 0.5, 0.0]),
        (1.0, [0.5, 0.375, 0.25, 0.125, 0.0]),
    ],
)
def test_the_share_of_imitation_fades_evenly(fade_frac: float, shares: list[float]) -> None:
    teacher = Teacher(nn.Identity(), 0.5, fade_frac)
    assert [teacher.weight_at(n / 4) for n in range(5)] == shares


def test_a_share_that_fades_lies_between_none_and_one_that_stays() -> None:
    """The losses of the first step are those of a share that stays, later ones come closer to
    those against the truth alone."""

    def losses(weight: float, fade_frac: float) -> list[float]:
        config = dataclasses.replace(IMITATION, epochs=6, learning_rate=1e-5)
        result = imitate(new_student(), tiny_model(), config, weight=weight, fade_frac=fade_frac)
        return [row["loss"] for row in result.history]

    truth, stays, fades = losses(0.0, 0.0), losses(0.5, 0.0), losses(0.5, 1.0)
    apart = [abs(one - other) for one, other in zip(stays, truth, strict=True)]
    left = [
        abs(one - other) / whole for one, other, whole in zip(fades, truth, apart, strict=True)
    ]
    # Two steps an epoch, so that the share has fallen by 0.5 / 6 of itself on its average.
    assert left == pytest.approx([1.0 - (epoch + 0.25) / 6 for epoch in range(6)], abs=0.05)


def test_a_student_approaches_its_teacher() -> None:
    """Boxes come to a fifth of their first distance: the teacher's differ much from any truth."""
    teacher = tiny_model()
    images = torch.from_numpy(SAMPLES.images).permute(0, 3, 1, 2).float() / 255.0
    wanted = ask_teacher(Teacher(teacher, 1.0), images)

    def errors(student: nn.Module) -> tuple[float, float]:
        with torch.no_grad():
            outputs = student.eval()(images)
        terms = compute_losses(outputs, wanted, LossConfig(bbox="normalized"))
        return (outputs.coverage - wanted.coverage).abs().mean().item(), terms.bbox.item()

    student = new_student()
    for layer in student.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.2
    before = errors(student)
    config = dataclasses.replace(IMITATION, epochs=25, learning_rate=2e-2)
    after = errors(imitate(student, teacher, config).model)
    assert after[0] < 0.4 * before[0]
    assert after[1] < 0.2 * before[1]
