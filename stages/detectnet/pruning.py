"""Structured channel pruning with NVIDIA's `min_weight` rule.

Each output filter's importance is the L2 norm of its kernel, normalised within its layer. Filters
above a threshold stay, at least `min_filters` of them, the number rounded up to `granularity`.
Convolutions whose outputs are added share one decision. The two heads keep all their outputs;
weights are kept, so that the pruned network is the old one without those channels.
Source of the rule: NVIDIA TAO 5, nvidia_tao_tf1 core/pruning/pruning.py (method min_weight).
Which layers belong together comes from Torch-Pruning's dependency graph (Fang et al., DepGraph,
CVPR 2023).
Deviations: `importance` l2_bn, a target fraction of parameters or of multiply-accumulates in place
of a threshold, and `min_frac`.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import is_folded, norm_name
from stages.detectnet.layer_costs import LayerChange, compare_layers, count_macs, count_params
from stages.detectnet.model import Architecture, DetectNet
from stages.detectnet.rounding import HEADS

TRACE_SIDE = 64


class Group(NamedTuple):
    """Convolutions that keep the same output channels: names, importance (F,) normalised."""

    names: tuple[str, ...]
    importance: torch.Tensor


@dataclass(frozen=True)
class Pruned:
    """The pruned network, the threshold that was used, and what happened to every layer."""

    model: DetectNet
    threshold: float
    layers: list[LayerChange]


def prune_model(model: DetectNet, config: PruneConfig) -> Pruned:
    """Remove the least important channels of an unquantized network; `model` stays as it is.

    Raises DetectNetError for a model whose batch normalisation is folded (a quantized one), and
    when params_frac or flops cannot be reached with these granularity, min_filters and min_frac.
    """
    if is_folded(model):
        raise DetectNetError(
            "the model's batch normalisation is folded, as quantized ones are; expected a float "
            "model; prune starts from models/train"
        )
    groups = find_groups(model, config)
    threshold = config.threshold
    if threshold is None:
        threshold = find_threshold(model.architecture, groups, config)
    keep = keep_channels(groups, threshold, config)
    pruned = remove_channels(model, keep)
    layers = compare_layers(model.architecture, pruned.architecture)
    return Pruned(pruned, threshold, layers)


def find_groups(model: DetectNet, config: PruneConfig) -> list[Group]:
    """List the convolutions to prune, coupled ones together, with their common importance."""
    groups = []
    for names in _coupled_convs(model):
        members = [
            normalize(filter_norms(model, name, importance=config.importance), config.normalizer)
            for name in names
        ]
        groups.append(Group(names, equalize(torch.stack(members), config.equalization)))
    return groups


def filter_norms(model: DetectNet, name: str, *, importance: str) -> torch.Tensor:
    """Return the L2 norm of each output filter's kernel, (F,) float64; the bias does not count.

    importance "l2_bn" multiplies it by |gamma| / sqrt(variance + eps) of the batch normalisation
    behind, which is the kernel's norm once that is folded into it.
    """
    kernel = model.get_submodule(name).get_parameter("weight").detach().double()
    norms = kernel.flatten(1).norm(dim=1)  # (F,)
    if importance == "l2":
        return norms
    norm_layer = model.get_submodule(norm_name(name))
    assert isinstance(norm_layer, nn.BatchNorm2d)
    assert norm_layer.running_var is not None
    deviation = (norm_layer.running_var.double() + norm_layer.eps).sqrt()
    return norms * norm_layer.weight.detach().double().abs() / deviation


def normalize(norms: torch.Tensor, normalizer: str) -> torch.Tensor:
    """Scale norms (F,) within their layer: "max" to at most 1, "l2" to a mean square of 1 / F.

    "l2" divides by the vector's norm and multiplies by F, as NVIDIA's code does. A layer of zeros
    stays zero.
    """
    scale = norms.max() if normalizer == "max" else norms.norm() / norms.numel()
    return norms / scale if scale > 0 else torch.zeros_like(norms)


def equalize(members: torch.Tensor, equalization: str) -> torch.Tensor:
    """Merge the importances (M, F) of coupled convolutions into one (F,)."""
    if equalization == "union":
        return members.amax(dim=0)
    if equalization == "intersection":
        return members.amin(dim=0)
    if equalization == "arithmetic_mean":
        return members.mean(dim=0)
    return members.log().mean(dim=0).exp()


def keep_indices(
    importance: torch.Tensor, *, threshold: float, granularity: int, min_filters: int
) -> list[int]:
    """Return the channels to keep, ascending: those above threshold, then the largest others.

    importance: (F,). The number is at least min(min_filters, F), rounded up to a multiple of
    granularity and at most F. Of equally important channels the first ones stay.
    """
    count = int((importance > threshold).sum())
    return keep_largest(importance, count, granularity=granularity, min_filters=min_filters)


def keep_largest(
    importance: torch.Tensor, count: int, *, granularity: int, min_filters: int
) -> list[int]:
    """Return the `count` most important channels, and more where keep_indices' rule wants it."""
    depth = importance.numel()
    count = max(count, min(min_filters, depth))
    count = min(-(-count // granularity) * granularity, depth)
    order = torch.argsort(importance, descending=True, stable=True)
    return sorted(order[:count].tolist())


def keep_channels(
    groups: Sequence[Group], threshold: float, config: PruneConfig
) -> dict[str, list[int]]:
    """Apply the rule to every group; returns the kept channels by convolution."""
    keep = {}
    for group in groups:
        least = math.ceil(config.min_frac * group.importance.numel())
        indices = keep_indices(
            group.importance,
            threshold=threshold,
            granularity=config.granularity,
            min_filters=max(config.min_filters, least),
        )
        keep.update({name: indices for name in group.names})
    return keep


def find_threshold(
    architecture: Architecture, groups: Sequence[Group], config: PruneConfig
) -> float:
    """Find the smallest threshold that keeps at most the wanted part of the network's cost.

    The cost falls in steps, at the importances themselves, so those are bisected.
    """
    name, frac, count = (
        ("params_frac", config.params_frac, count_params)
        if config.flops is None
        else ("flops", config.flops, count_macs)
    )
    assert frac is not None
    whole = count(architecture)
    candidates = [0.0, *torch.cat([group.importance for group in groups]).unique().tolist()]

    def kept_at(threshold: float) -> float:
        keep = keep_channels(groups, threshold, config)
        channels = {**architecture.channels, **{conv: len(keep[conv]) for conv in keep}}
        return count(replace_channels(architecture, channels)) / whole

    least = kept_at(candidates[-1])
    if least > frac:
        raise DetectNetError(
            f"prune.{name} is {frac}, but granularity {config.granularity}, min_filters "
            f"{config.min_filters} and min_frac {config.min_frac:g} leave at least {least:.3f}; "
            "lower those"
        )
    low, high = -1, len(candidates) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if kept_at(candidates[middle]) <= frac else (middle, high)
    return candidates[high]


def remove_channels(model: DetectNet, keep: Mapping[str, Sequence[int]]) -> DetectNet:
    """Return a new network with only the kept output channels, by convolution name."""
    import torch_pruning

    thin = copy.deepcopy(model).eval()
    graph = _dependency_graph(thin)
    for names in _coupled_convs(thin, graph):
        conv = thin.get_submodule(names[0])
        assert isinstance(conv, nn.Conv2d)
        drop = sorted(set(range(conv.out_channels)) - set(keep[names[0]]))
        if drop:
            group = graph.get_pruning_group(conv, torch_pruning.prune_conv_out_channels, drop)
            group.prune()
    return _rebuild(thin)


def silence_channels(model: DetectNet, keep: Mapping[str, Sequence[int]]) -> DetectNet:
    """Return a copy that computes what remove_channels' network does, but without its graph.

    The other output channels of the convolutions in `keep` become zero, by scale and shift of the
    batch normalisation behind them; the shapes stay. Coupled convolutions must keep the same.
    """
    silenced = copy.deepcopy(model)
    for name, kept in keep.items():
        norm_layer = silenced.get_submodule(norm_name(name))
        assert isinstance(norm_layer, nn.BatchNorm2d)
        drop = sorted(set(range(norm_layer.num_features)) - set(kept))
        norm_layer.weight.data[drop] = 0.0
        norm_layer.bias.data[drop] = 0.0
    return silenced


def replace_channels(architecture: Architecture, channels: Mapping[str, int]) -> Architecture:
    """Return the architecture with other channel counts."""
    return replace(architecture, channels=dict(channels))


def _dependency_graph(model: DetectNet) -> Any:
    import torch_pruning

    example = torch.zeros(1, 3, TRACE_SIDE, TRACE_SIDE)
    return torch_pruning.DependencyGraph().build_dependency(
        model, example_inputs=example, output_transform=lambda outputs: list(outputs)
    )


def _coupled_convs(model: DetectNet, graph: Any = None) -> list[tuple[str, ...]]:
    """Group the trunk's convolutions whose output channels must stay equal, in network order."""
    import torch_pruning

    traced = copy.deepcopy(model).eval() if graph is None else model
    graph = graph or _dependency_graph(traced)
    names = {layer: name for name, layer in traced.named_modules()}
    order = {name: index for index, name in enumerate(names.values())}
    heads = [traced.get_submodule(name) for name in HEADS]
    groups = graph.get_all_groups(ignored_layers=heads, root_module_types=[nn.Conv2d])
    coupled = []
    for group in groups:
        members = {
            names[dependency.target.module]
            for dependency, _ in group
            if dependency.handler == torch_pruning.prune_conv_out_channels
        }
        coupled.append(tuple(sorted(members, key=order.__getitem__)))
    return sorted(coupled, key=lambda members: order[members[0]])


def _rebuild(thin: DetectNet) -> DetectNet:
    """Make a fresh network of the thinned one's channels and copy its weights."""
    channels = {}
    for name in thin.architecture.channels:
        conv = thin.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        channels[name] = conv.out_channels
    rebuilt = DetectNet(replace_channels(thin.architecture, channels))
    rebuilt.load_state_dict(thin.state_dict())
    return rebuilt.eval()
