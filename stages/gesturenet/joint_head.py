"""The joints of the hand as a second task of training: what a gesture is made of.

A network that has to say where 21 joints are looks at fingers, not at rooms and sleeves. The head
reads the features of the last two stages and is dropped after training: the exported network knows
nothing of it. Joints are the expectation of a heatmap of 10 x 10 cells (integral regression, Sun
et al. 2018, arXiv 1711.08229).
"""

import torch
from torch import nn
from torch.nn import functional

from stages.gesturenet.crops import NUM_JOINTS
from stages.gesturenet.model import Architecture, GestureClassifier

CHANNELS = 64
# Of the picture's side: errors below are squared, larger ones count by their size.
SMOOTH_FRAC = 0.02


class JointHead(nn.Module):
    """features of the last two blocks -> joints (B, 21, 2) in [0, 1], fractions of the side."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.width
        self.conv_fine = nn.Conv2d(4 * width, CHANNELS, 1, bias=False)
        self.conv_coarse = nn.Conv2d(8 * width, CHANNELS, 1, bias=False)
        self.bn_1 = nn.BatchNorm2d(CHANNELS)
        self.conv_2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn_2 = nn.BatchNorm2d(CHANNELS)
        self.conv_heat = nn.Conv2d(CHANNELS, NUM_JOINTS, 1)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        coarse = functional.interpolate(self.conv_coarse(coarse), scale_factor=2.0)
        features = functional.relu(self.bn_1(self.conv_fine(fine) + coarse))
        features = functional.relu(self.bn_2(self.conv_2(features)))
        return expected_places(self.conv_heat(features).float())


class Learner(nn.Module):
    """What is trained: the classifier, and the head of the joints where there is one."""

    def __init__(self, model: GestureClassifier, head: JointHead | None) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits (B, num_classes), and joints (B, 21, 2) or None."""
        fine, coarse = self.model.features(images)
        joints = None if self.head is None else self.head(fine, coarse)
        return self.model.classify(coarse), joints


def expected_places(heat: torch.Tensor) -> torch.Tensor:
    """Return the expected (x, y) in [0, 1] of the softmax of maps (B, K, H, W): (B, K, 2)."""
    height, width = heat.shape[2:]
    share = torch.softmax(heat.flatten(2), dim=2).reshape(heat.shape)
    x = (torch.arange(width, device=heat.device) + 0.5) / width
    y = (torch.arange(height, device=heat.device) + 0.5) / height
    return torch.stack([(share.sum(2) * x).sum(2), (share.sum(3) * y).sum(2)], dim=2)


def joint_loss(found: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """Return the mean error of joints, a scalar; 0 where none of them counts.

    found: (B, 21, 2) in [0, 1]; joints: the same, NaN where unknown. Those outside the picture do
    not count.
    """
    counts = ((joints >= 0) & (joints <= 1)).all(dim=2, keepdim=True)  # NaN compares false
    target = torch.where(counts, joints, found.detach())
    error = functional.smooth_l1_loss(found, target, beta=SMOOTH_FRAC, reduction="sum")
    return error / (2 * counts.sum()).clamp(min=1)
