"""How much accuracy each layer group loses when it alone is pruned, and what that saves.

The table says where a network can be thinned: the groups, the order of their channels and the
rounding are those of pruning.py, the network is not trained in between.
Source of the idea: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.2.
"""

from typing import NamedTuple

import torch
from tqdm import tqdm

from deploy.core.cluster import Postprocess
from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.data import Samples
from stages.detectnet.layer_costs import count_macs, count_params
from stages.detectnet.model import Architecture, DetectNet
from stages.detectnet.pruning import (
    Group,
    find_groups,
    keep_largest,
    replace_channels,
    silence_channels,
)
from stages.detectnet.validation import validate


class Sensitivity(NamedTuple):
    """One layer group at one fraction: the channels before and after, the cost, the accuracy.

    convolutions: names joined by "+". kept_frac: as asked for; kept: after granularity and
    min_filters. The saved fractions are of the whole network's multiply-accumulates and
    parameters. ap50_drop: AP50 of the whole network less this one's; negative where it is better.
    """

    convolutions: str
    channels: int
    kept_frac: float
    kept: int
    macs_saved_frac: float
    params_saved_frac: float
    ap: float
    ap50: float
    ap50_drop: float


class Cut(NamedTuple):
    """A layer group, the fraction to keep and the channels that are kept for it."""

    group: Group
    kept_frac: float
    keep: list[int]

    @property
    def num_channels(self) -> int:
        """Channels of the group before the cut."""
        return self.group.importance.numel()


def measure_sensitivity(
    model: DetectNet,
    samples: Samples,
    config: PruneConfig,
    *,
    postprocess: Postprocess,
    device: torch.device,
) -> list[Sensitivity]:
    """Prune each group alone to each of config.sensitivity.kept_fracs and measure on the samples.

    model: a float network with batch normalisation; it stays as it is. Returns a row per group
    and fraction, groups from input to output. A fraction that granularity and min_filters round
    to the channels of another one gets that one's accuracy.
    """

    def validate_cut(cut: Cut) -> dict[str, float]:
        thin = silence_channels(model, dict.fromkeys(cut.group.names, cut.keep))
        return validate(thin.to(device), samples, postprocess, device=device)

    cuts = list_cuts(find_groups(model, config), config)
    whole = validate(silence_channels(model, {}).to(device), samples, postprocess, device=device)
    rows: list[Sensitivity] = []
    measured: dict[tuple[tuple[str, ...], int], Sensitivity] = {}
    for cut in tqdm(cuts, desc="sensitivity", unit="network", disable=None):
        key = (cut.group.names, len(cut.keep))
        if key not in measured:
            found = validate_cut(cut) if len(cut.keep) < cut.num_channels else whole
            measured[key] = make_row(model.architecture, cut, found, whole)
        rows.append(measured[key]._replace(kept_frac=cut.kept_frac))
    return rows


def list_cuts(groups: list[Group], config: PruneConfig) -> list[Cut]:
    """Return what to measure: each group with each fraction, the count rounded to the nearest."""
    return [
        Cut(
            group,
            frac,
            keep_largest(
                group.importance,
                round(frac * group.importance.numel()),
                granularity=config.granularity,
                min_filters=config.min_filters,
            ),
        )
        for group in groups
        for frac in config.sensitivity.kept_fracs
    ]


def make_row(
    architecture: Architecture, cut: Cut, found: dict[str, float], whole: dict[str, float]
) -> Sensitivity:
    """Return a cut's line of the table, from its accuracy and the whole network's."""
    kept = len(cut.keep)
    channels = {**architecture.channels, **{name: kept for name in cut.group.names}}
    thin = replace_channels(architecture, channels)
    return Sensitivity(
        convolutions="+".join(cut.group.names),
        channels=cut.num_channels,
        kept_frac=cut.kept_frac,
        kept=kept,
        macs_saved_frac=1.0 - count_macs(thin) / count_macs(architecture),
        params_saved_frac=1.0 - count_params(thin) / count_params(architecture),
        ap=found["ap"],
        ap50=found["ap50"],
        ap50_drop=whole["ap50"] - found["ap50"],
    )
