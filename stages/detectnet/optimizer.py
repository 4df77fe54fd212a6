"""Optimisers: Adam with TensorFlow 1's epsilon, and AdamW with decay on kernels alone."""

import math

import torch
from torch import nn

from stages.detectnet.config import OptimizerConfig
from stages.learning.muon import Muon


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimiser of every trainable parameter; each step sets its learning rate first."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    betas = (config.beta1, config.beta2)
    if config.name == "adam":
        return torch.optim.Adam(trainable, lr=0.0, betas=betas, eps=config.epsilon)
    if config.name == "muon":
        return _build_muon(model, config)
    kernels = [parameter for parameter in trainable if parameter.ndim > 1]
    vectors = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=config.epsilon)


def _build_muon(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    is_hidden = {name: value.ndim > 1 and "output_" not in name for name, value in named}
    hidden = [value for name, value in named if is_hidden[name]]
    others = [value for name, value in named if not is_hidden[name]]
    groups = [
        {
            "params": hidden,
            "weight_decay": config.weight_decay,
            "momentum": config.muon_momentum,
        },
        {"params": others, "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return Muon(groups, lr=0.0, betas=betas, eps=config.epsilon)


def prepare_step(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, *, step: int, learning_rate: float
) -> None:
    """Set the learning rate and, for "adam", the epsilon of step 0, 1, 2, ...

    TensorFlow 1 adds epsilon to the second moment's root before the bias correction ("epsilon
    hat"); dividing it by the correction makes PyTorch's Adam compute the same step.
    """
    epsilon = config.epsilon
    if config.name == "adam":
        epsilon = config.epsilon / math.sqrt(1.0 - config.beta2 ** (step + 1))
    for group in optimizer.param_groups:
        group["lr"], group["eps"] = learning_rate, epsilon
