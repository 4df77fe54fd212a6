import copy
import dataclasses

import pytest
import torch

from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.model import DetectNet, build_architecture, count_parameters
from stages.detectnet.pruning import (
    equalize,
    filter_norms,
    find_groups,
    keep_channels,
    keep_indices,
    keep_largest,
    normalize,
    prune_model,
    remove_channels,
    silence_channels,
)
from tests.stages.detectnet.tiny import tiny_images, tiny_model

TAO = PruneConfig(threshold=0.5, params_frac=None, importance="l2", min_filters=16)
SMALL = PruneConfig(params_frac=0.4, granularity=2, min_filters=2)


@pytest.mark.parametrize(
    ("importance", "options", "kept"),
    [
        # threshold, granularity, min_filters -> by hand
        ([1.0, 0.9, 0.1, 0.8], (0.5, 1, 1), [0, 1, 3]),
        ([1.0, 0.9, 0.1, 0.8], (0.5, 4, 1), [0, 1, 2, 3]),  # 3 rounded up to 4
        ([1.0, 0.9, 0.1, 0.8, 0.2], (0.85, 4, 1), [0, 1, 3, 4]),  # 2 -> 4: the largest four
        ([0.1, 0.2, 0.3], (0.5, 8, 16), [0, 1, 2]),  # capped at the depth
        ([0.3, 0.1, 0.2, 0.4], (0.9, 1, 2), [0, 3]),  # none above: the two largest, in order
        ([0.5, 0.5, 0.5], (0.5, 1, 1), [0]),  # not strictly above: the first of equals
        ([0.0, 0.0], (0.5, 1, 1), [0]),
    ],
)
def test_keep_indices_follow_the_rule(importance, options, kept):
    threshold, granularity, min_filters = options
    found = keep_indices(
        torch.tensor(importance),
        threshold=threshold,
        granularity=granularity,
        min_filters=min_filters,
    )
    assert found == kept


@pytest.mark.parametrize(
    ("normalizer", "expected"), [("max", [0.75, 1.0, 0.0]), ("l2", [1.8, 2.4, 0.0])]
)
def test_normalize_matches_the_formulas(normalizer, expected):
    found = normalize(torch.tensor([3.0, 4.0, 0.0]), normalizer)
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("normalizer", ["max", "l2"])
def test_a_layer_of_zeros_stays_zero(normalizer):
    assert normalize(torch.zeros(3), normalizer).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("equalization", "expected"),
    [
        ("union", [0.9, 0.8]),
        ("intersection", [0.1, 0.2]),
        ("arithmetic_mean", [0.5, 0.5]),
        ("geometric_mean", [0.3, 0.4]),
    ],
)
def test_equalize_matches_the_formulas(equalization, expected):
    members = torch.tensor([[0.9, 0.2], [0.1, 0.8]])
    assert equalize(members, equalization).tolist() == pytest.approx(expected)


def test_l2_norm_ignores_bias_and_l2_bn_is_the_folded_norm():
    model = tiny_model()
    name = "block_2a_conv_1"
    kernel = model.get_submodule(name).weight.detach()
    plain = filter_norms(model, name, importance="l2")
    assert plain.tolist() == pytest.approx(kernel.flatten(1).norm(dim=1).tolist())
    folded = fold_batch_norm(model).get_submodule(name).weight.detach()
    scaled = filter_norms(model, name, importance="l2_bn")
    assert scaled.tolist() == pytest.approx(folded.flatten(1).norm(dim=1).tolist())


@pytest.mark.parametrize(
    ("num_layers", "all_projections", "coupled"),
    [
        (10, True, ("block_1a_conv_2", "block_1a_conv_shortcut")),
        (18, True, ("block_1b_conv_2", "block_1b_conv_shortcut")),
        (18, False, ("block_1a_conv_2", "block_1a_conv_shortcut", "block_1b_conv_2")),
    ],
)
def test_only_convolutions_that_meet_in_an_addition_are_grouped(
    num_layers, all_projections, coupled
):
    model = tiny_model(num_layers=num_layers, all_projections=all_projections)
    groups = [group.names for group in find_groups(model, TAO)]
    assert coupled in groups
    assert ("block_1a_conv_1",) in groups
    assert sorted(name for names in groups for name in names) == sorted(
        model.architecture.channels
    )


@pytest.mark.parametrize(("num_layers", "all_projections"), [(10, True), (18, False)])
def test_pruned_network_is_the_old_one_with_those_channels_silenced(num_layers, all_projections):
    """Exact but for the order of sums: channels whose scale and shift are 0 give 0 everywhere."""
    model = tiny_model(num_layers=num_layers, all_projections=all_projections)
    keep = keep_channels(find_groups(model, SMALL), 0.8, SMALL)
    for name, kept in keep.items():
        assert len(kept) < model.architecture.channels[name], "channels should go in every layer"
    pruned, silenced = remove_channels(model, keep), silence_channels(model, keep)
    with torch.no_grad():
        expected, found = silenced(tiny_images()), pruned(tiny_images())
    assert torch.allclose(found.coverage, expected.coverage, atol=1e-5)
    assert torch.allclose(found.bbox, expected.bbox, atol=1e-4)


@pytest.mark.parametrize(("num_layers", "all_projections"), [(10, True), (18, False)])
def test_one_group_silenced_is_that_group_removed(num_layers, all_projections):
    model = tiny_model(num_layers=num_layers, all_projections=all_projections)
    whole = {name: list(range(depth)) for name, depth in model.architecture.channels.items()}
    before = copy.deepcopy(model.state_dict())
    for group in find_groups(model, SMALL):
        kept = keep_largest(group.importance, 2, granularity=2, min_filters=2)
        keep = dict.fromkeys(group.names, kept)
        pruned = remove_channels(model, {**whole, **keep})
        with torch.no_grad():
            expected, found = pruned(tiny_images()), silence_channels(model, keep)(tiny_images())
        assert torch.allclose(found.coverage, expected.coverage, atol=1e-5)
        assert torch.allclose(found.bbox, expected.bbox, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_kept_weights_are_the_old_ones_and_the_old_network_is_untouched():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    keep = keep_channels(find_groups(model, SMALL), 0.8, SMALL)
    pruned = remove_channels(model, keep)
    rows, columns = keep["block_2a_conv_2"], keep["block_2a_conv_1"]
    expected = before["block_2a_conv_2.weight"][rows][:, columns]
    assert torch.equal(pruned.state_dict()["block_2a_conv_2.weight"], expected)
    assert torch.equal(
        pruned.state_dict()["block_2a_bn_2.running_var"],
        before["block_2a_bn_2.running_var"][rows],
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_channel_table_rebuilds_the_pruned_network():
    pruned = prune_model(tiny_model(), SMALL).model
    rebuilt = DetectNet(dataclasses.replace(pruned.architecture)).eval()
    rebuilt.load_state_dict(pruned.state_dict())
    for name, depth in pruned.architecture.channels.items():
        assert rebuilt.get_submodule(name).out_channels == depth
    assert pruned.output_bbox.out_channels == 4
    with torch.no_grad():
        assert torch.equal(rebuilt(tiny_images()).bbox, pruned(tiny_images()).bbox)


@pytest.mark.parametrize("importance", ["l2", "l2_bn"])
def test_target_fraction_is_met_by_the_smallest_threshold(importance):
    model = tiny_model(width=16)
    config = dataclasses.replace(SMALL, importance=importance)
    pruned = prune_model(model, config)
    kept = count_parameters(pruned.model) / count_parameters(model)
    assert 0.3 < kept <= config.params_frac
    lower = dataclasses.replace(config, threshold=pruned.threshold * 0.999, params_frac=None)
    assert count_parameters(prune_model(model, lower).model) / count_parameters(model) > 0.4


def test_target_fraction_of_multiply_accumulates_is_met_by_the_smallest_threshold():
    model = tiny_model(width=16)
    config = dataclasses.replace(SMALL, params_frac=None, flops=0.25)
    pruned = prune_model(model, config)

    def kept(layers):
        return sum(one.macs_after for one in layers) / sum(one.macs_before for one in layers)

    assert 0.15 < kept(pruned.layers) <= 0.25
    lower = dataclasses.replace(config, threshold=pruned.threshold * 0.999, flops=None)
    assert kept(prune_model(model, lower).layers) > 0.25


def test_default_rule_removes_more_than_60_percent_of_the_tiny_model():
    architecture = build_architecture(10, width=16, input_wh=[320, 192])
    model = DetectNet(architecture)
    assert count_parameters(prune_model(model, PruneConfig()).model) <= 0.4 * count_parameters(
        model
    )


def test_tao_rule_keeps_granularity_and_minimum():
    pruned = prune_model(tiny_model(width=32), dataclasses.replace(TAO, threshold=0.95))
    depths = pruned.model.architecture.channels.values()
    assert all(depth % 8 == 0 and depth >= 16 for depth in depths)
    assert pruned.threshold == 0.95


def test_threshold_zero_keeps_everything():
    config = dataclasses.replace(TAO, threshold=0.0)
    model = tiny_model()
    assert prune_model(model, config).model.architecture == model.architecture


def test_no_layer_keeps_a_smaller_fraction_than_min_frac():
    model = tiny_model(width=32)
    config = dataclasses.replace(SMALL, params_frac=None, flops=0.3)
    kept = {}
    for frac in (0.0, 0.4):
        pruned = prune_model(model, dataclasses.replace(config, min_frac=frac)).model
        whole, thin = model.architecture.channels, pruned.architecture.channels
        kept[frac] = min(thin[name] / whole[name] for name in whole)
    assert kept[0.0] < 0.4 <= kept[0.4]


@pytest.mark.parametrize("goal", [{"params_frac": 0.01}, {"params_frac": None, "flops": 0.01}])
def test_an_impossible_fraction_names_what_is_possible(goal):
    config = dataclasses.replace(SMALL, **goal, granularity=8, min_filters=8)
    with pytest.raises(DetectNetError, match=r"leave at least 0\.\d+; lower those"):
        prune_model(tiny_model(), config)


def test_a_folded_network_is_refused():
    with pytest.raises(DetectNetError, match="starts from models/train"):
        prune_model(fold_batch_norm(tiny_model()), SMALL)
