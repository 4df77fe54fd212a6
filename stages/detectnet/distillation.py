"""Knowledge distillation: a network learns what another one, its teacher, says of each picture.

The teacher's maps take the place of drawn boxes, and the losses stay those of losses.py. Sources:
Hinton et al., Distilling the Knowledge in a Neural Network, 2015 (a weighted sum of the losses
against truth and teacher); Chen et al., Learning Efficient Object Detection Models with Knowledge
Distillation, NeurIPS 2017 (for detectors). Deviations: no temperature, because coverage is soft
already; no hints from inner layers; the box loss has no bound where the student is the better one.
"""

import copy
import dataclasses
from typing import NamedTuple

import torch
from torch import nn

from stages.detectnet.compute import Alone, Fabric
from stages.detectnet.config import LossConfig
from stages.detectnet.losses import LossTerms, compute_losses
from stages.detectnet.model import Outputs
from stages.detectnet.targets import Targets

# A trained network is never quite sure of an empty cell; without this every cell would be covered.
COVERAGE_THRESHOLD = 0.05


class Teacher(NamedTuple):
    """A module with DetectNet's forward, and the share of the loss, 0 to 1, that is imitation.

    fade_frac: in this last part of the training, 0 to 1, that share falls evenly to 0: what the
    teacher gets wrong is then unlearnt. 0 = it stays.
    """

    network: nn.Module
    weight: float
    fade_frac: float = 0.0

    def weight_at(self, progress: float) -> float:
        """Return the share at a part of the training, 0 at its start to 1 at its end."""
        left = 1.0 - progress
        return self.weight if left >= self.fade_frac else self.weight * left / self.fade_frac


def frozen_copy(network: nn.Module) -> nn.Module:
    """Copy a network that is only to be asked: in evaluation mode, without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def place_teacher(
    fabric: Fabric, teacher: Teacher | None, memory_format: torch.memory_format
) -> Teacher | None:
    """Copy the teacher to the device; without gradients it is no business of other processes.

    None without one, and for one that has no share in the loss.
    """
    if teacher is None or teacher.weight == 0.0:
        return None
    network = frozen_copy(teacher.network).to(fabric.device)
    network.to(memory_format=memory_format)  # type: ignore[call-overload]
    return teacher._replace(network=Alone(fabric, network))


@torch.no_grad()
def ask_teacher(teacher: Teacher, images: torch.Tensor) -> Targets:
    """Return what the teacher sees in network input (B, 3, H, W) as targets, without gradients."""
    return teacher_targets(teacher.network(images))


def teacher_targets(
    outputs: Outputs, *, coverage_threshold: float = COVERAGE_THRESHOLD
) -> Targets:
    """Turn the teacher's maps, of one class, into the targets that drawn boxes give otherwise.

    Cells whose coverage is above coverage_threshold keep it and their bbox, and weigh as much as
    they are covered. All maps are 0 in the others, also where the coverage is NaN.
    """
    is_covered = outputs.coverage > coverage_threshold  # (B, 1, h, w)
    coverage = torch.where(is_covered, outputs.coverage, 0.0)
    bbox = torch.where(is_covered, outputs.bbox, 0.0)  # (B, 4, h, w)
    return Targets(coverage, bbox, coverage)


def imitation_losses(outputs: Outputs, targets: Targets, config: LossConfig) -> LossTerms:
    """Compute both terms against the teacher's targets, with the configured losses.

    coverage_target is not followed: "iou" would put the student's own fit in the place of the
    coverage that the teacher gives.
    """
    return compute_losses(outputs, targets, dataclasses.replace(config, coverage_target="ellipse"))
