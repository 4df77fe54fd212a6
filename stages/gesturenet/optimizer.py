"""The optimizer of the gesture classifier: Muon for convolution kernels, AdamW for all else.

Why: with 1,500 crops of 34 drawn videos and 15 epochs, unseen videos are classified 81 % right
instead of 60 % with AdamW at its best learning rate (same network, batches and crops).
"""

import torch
from torch import nn

from stages.learning.muon import Muon

MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.95)
# AdamW's share of the learning rate.
ADAM_SCALE = 0.5


def build_optimizer(model: nn.Module, *, weight_decay: float) -> Muon:
    """Make the optimizer; weight decay is decoupled and acts on kernels only.

    A learning rate is set before each step, see set_learning_rate.
    """
    parameters = list(model.parameters())
    kernels = [one for one in parameters if one.ndim == 4]
    others = [one for one in parameters if one.ndim != 4]
    groups = [
        {"params": kernels, "momentum": MOMENTUM, "weight_decay": weight_decay, "lr_scale": 1.0},
        {"params": others, "weight_decay": 0.0, "lr_scale": ADAM_SCALE},
    ]
    return Muon(groups, lr=0.0, betas=ADAM_BETAS)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
