"""The detector's losses: NVIDIA's, and the balanced ones that learn faster from few pictures.

NVIDIA's: nvidia_tao_tf1 cv/detectnet_v2/cost_function and objectives (TAO 5). Maps are as in
targets.Targets and model.Outputs; everything is computed in float32.
"""

from typing import NamedTuple

import torch
from torch import nn

from stages.detectnet.config import LossConfig
from stages.detectnet.model import Outputs
from stages.detectnet.targets import Targets

LOG_EPS = 1.0e-5
AREA_EPS = 1.0e-6


class LossTerms(NamedTuple):
    """Unweighted scalars: coverage and bbox."""

    coverage: torch.Tensor
    bbox: torch.Tensor


class LossWeights(NamedTuple):
    """Weights of the two terms; autoweighting changes them after each epoch."""

    coverage: float
    bbox: float


def compute_losses(outputs: Outputs, targets: Targets, config: LossConfig) -> LossTerms:
    """Compute both terms as the configuration says."""
    bbox = BBOX_LOSSES[config.bbox](outputs.bbox, targets)
    if config.coverage_target == "iou":
        targets = targets._replace(coverage=iou_coverage(outputs.bbox, targets))
    entropy = cross_entropy(outputs.coverage, targets.coverage)
    if config.coverage == "focal":
        coverage = focal_coverage_loss(entropy, outputs.coverage, targets.coverage)
    else:
        average = coverage_loss if config.coverage == "tao" else balanced_coverage_loss
        coverage = average(entropy, targets.coverage, config.coverage_foreground_weight)
    return LossTerms(coverage, bbox)


def cross_entropy(coverage: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy per cell against a soft target, logarithms guarded by 1e-5."""
    positive = target * torch.log(coverage + LOG_EPS)
    return -(positive + (1.0 - target) * torch.log(1.0 - coverage + LOG_EPS))


def coverage_loss(
    entropy: torch.Tensor, target: torch.Tensor, foreground_weight: float
) -> torch.Tensor:
    """Weigh cells above 0.5 by foreground_weight, the others by 1 - it (NVIDIA); mean over all."""
    weight = torch.where(target > 0.5, foreground_weight, 1.0 - foreground_weight)
    return (weight * entropy).mean()


def balanced_coverage_loss(
    entropy: torch.Tensor, target: torch.Tensor, foreground_weight: float
) -> torch.Tensor:
    """Average covered and empty cells apart over the batch, then weigh the two means.

    Without covered cells only the second mean counts. The number of cells under hands, 1 in 20
    here, then no longer decides how much they weigh.
    """
    is_covered = (target > 0).to(entropy.dtype)
    num_covered = is_covered.sum().clamp_min(1.0)
    num_empty = (1.0 - is_covered).sum().clamp_min(1.0)
    covered = (entropy * is_covered).sum() / num_covered
    empty = (entropy * (1.0 - is_covered)).sum() / num_empty
    return foreground_weight * covered + (1.0 - foreground_weight) * empty


def focal_coverage_loss(
    entropy: torch.Tensor, coverage: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Weigh each cell by its squared error; sum over all cells / sum of the targets.

    Source: Li et al., Generalized Focal Loss, NeurIPS 2020 (quality focal loss, beta 2).
    """
    return ((target - coverage) ** 2 * entropy).sum() / target.sum().clamp_min(1.0)


def bbox_loss(bbox: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Mean over all cells, empty ones included, of |error| times coverage / ellipse area."""
    return (targets.bbox_weight * (bbox - targets.bbox).abs()).mean()


def normalized_bbox_loss(bbox: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Mean |error| over covered cells, weighted as NVIDIA's; 0 when no cell is covered."""
    error = (bbox - targets.bbox).abs().mean(dim=1, keepdim=True)  # (B, 1, h, w)
    return (targets.bbox_weight * error).sum() / targets.bbox_weight.sum().clamp_min(1.0)


def iou_coverage(bbox: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return what covered cells should say of their own box: its IoU with the truth, (B, 1, h, w).

    Confidence then ranks boxes by how well they fit. No gradient; empty cells stay 0.
    Source: Li et al., Generalized Focal Loss, NeurIPS 2020 (joint quality and class).
    """
    predicted, wanted = bbox.detach().clamp_min(0.0), targets.bbox.clamp_min(0.0)
    shared = _area(torch.minimum(predicted, wanted))
    union = _area(predicted) + _area(wanted) - shared
    iou = (shared / union.clamp_min(AREA_EPS)).clamp_min(AREA_EPS)[:, None]
    return torch.where(targets.coverage > 0, iou, 0.0)


def normalized_and_giou_loss(bbox: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Sum of both: distances in pixels guide boxes that do not overlap, GIoU the last ones."""
    return normalized_bbox_loss(bbox, targets) + giou_loss(bbox, targets)


def giou_loss(bbox: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Mean over covered cells of 1 - generalised IoU, weighted by coverage; 0 without such cells.

    Source: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019. Both boxes hold the
    cell's anchor as a rule; a predicted side on the wrong side of it counts as length 0.
    """
    predicted, wanted = bbox.clamp_min(0.0), targets.bbox.clamp_min(0.0)
    shared = _area(torch.minimum(predicted, wanted))
    union = _area(predicted) + _area(wanted) - shared
    hull = _area(torch.maximum(predicted, wanted)).clamp_min(AREA_EPS)
    giou = shared / union.clamp_min(AREA_EPS) - (hull - union) / hull  # (B, h, w)
    weight = targets.coverage[:, 0]
    return ((1.0 - giou) * weight).sum() / weight.sum().clamp_min(1.0)


def _area(distance: torch.Tensor) -> torch.Tensor:
    left, top, right, bottom = distance.unbind(1)
    return (left + right) * (top + bottom)


BBOX_LOSSES = {
    "tao": bbox_loss,
    "normalized": normalized_bbox_loss,
    "giou": giou_loss,
    "normalized+giou": normalized_and_giou_loss,
}


def initial_weights(config: LossConfig) -> LossWeights:
    """Weights of the first epoch: the configured ones, divided by their sum."""
    total = config.coverage_weight + config.bbox_weight
    return LossWeights(config.coverage_weight / total, config.bbox_weight / total)


def update_weights(weights: LossWeights, sums: LossWeights, config: LossConfig) -> LossWeights:
    """Return the next epoch's weights, so that each term contributes its target share.

    sums: each unweighted term summed over the epoch's batches. Weights are clamped to the
    configured bounds and not renormalised; a sum of 0 gives weight 0 before clamping, and when
    both sums are 0 the old weights stay.
    """
    if not config.autoweighting or (sums.coverage <= 0.0 and sums.bbox <= 0.0):
        return weights
    coverage = config.coverage_weight_target / sums.coverage if sums.coverage > 0.0 else 0.0
    bbox = config.bbox_weight_target / sums.bbox if sums.bbox > 0.0 else 0.0
    low, high = config.minimum_weight, config.maximum_weight
    total = coverage + bbox
    return LossWeights(
        min(max(coverage / total, low), high),
        min(max(bbox / total, low), high),
    )


def weigh(terms: LossTerms, weights: LossWeights) -> torch.Tensor:
    """Return the weighted sum of both terms."""
    return weights.coverage * terms.coverage + weights.bbox * terms.bbox


def l1_regularizer(model: nn.Module) -> torch.Tensor:
    """Sum |kernel| and |bias| over all convolutions, heads included; batch norm is left out."""
    sums = [
        parameter.abs().sum()
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
        for parameter in (layer.weight, layer.bias)
        if parameter is not None
    ]
    return torch.stack(sums).sum() if sums else torch.zeros(())
