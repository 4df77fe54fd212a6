from stages.detectnet.compression_config import PruneConfig
from stages.detectnet.layer_costs import count_costs, count_macs, count_params
from stages.detectnet.model import DetectNet, build_architecture, count_parameters
from stages.detectnet.pruning import prune_model
from tests.stages.detectnet.tiny import tiny_model

SMALL = PruneConfig(params_frac=0.4, granularity=2, min_filters=2)


def test_costs_match_hand_counts():
    costs = count_costs(build_architecture(10, width=8, input_wh=[96, 64]))
    assert costs["conv1"] == (8, 8 * 3 * 49 + 8, 8 * 3 * 49 * 48 * 32)
    assert costs["block_1a_conv_2"] == (8, 8 * 8 * 9 + 8, 8 * 8 * 9 * 24 * 16)
    assert costs["output_bbox"] == (4, 4 * 64 + 4, 4 * 64 * 6 * 4)


def test_layer_table_compares_both_networks():
    pruned = prune_model(tiny_model(), SMALL)
    rows = {row.name: row for row in pruned.layers}
    assert list(rows)[0] == "conv1"
    assert rows["output_cov"].channels_after == 1
    assert all(row.params_after <= row.params_before for row in pruned.layers)
    conv = rows["block_4a_conv_1"]
    assert conv.channels_after == pruned.model.block_4a_conv_1.out_channels
    assert conv.macs_after * conv.params_before > 0


def test_totals_are_the_networks():
    architecture = build_architecture(10, width=8, input_wh=[96, 64])
    assert count_params(architecture) == count_parameters(DetectNet(architecture))
    assert count_macs(architecture) == sum(row[2] for row in count_costs(architecture).values())
