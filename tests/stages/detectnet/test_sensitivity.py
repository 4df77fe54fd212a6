"""The sensitivity table agrees with real pruning, with the costs and with the rule of rounding."""

import copy
import dataclasses

import pytest
import torch

from stages.detectnet.compression_config import PruneConfig, SensitivityConfig
from stages.detectnet.config import AugmentConfig, FitConfig
from stages.detectnet.folding import measure_batch_norm
from stages.detectnet.layer_costs import compare_layers
from stages.detectnet.model import DetectNet, build_architecture
from stages.detectnet.pruning import find_groups, remove_channels
from stages.detectnet.retraining import calibration_batches
from stages.detectnet.sensitivity import Sensitivity, list_cuts, measure_sensitivity
from stages.detectnet.training import fit
from stages.detectnet.validation import validate
from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples
from tests.stages.detectnet.tiny import tiny_model

CPU = torch.device("cpu")
SAMPLES = draw_samples(24)


@pytest.fixture(scope="module")
def trained() -> DetectNet:
    """A small network that knows these pictures by heart."""
    torch.manual_seed(3)
    model = DetectNet(build_architecture(10, width=8, input_wh=list(INPUT_WH)))
    config = FitConfig(
        epochs=30,
        learning_rate=5.0e-3,
        batch_size=4,
        precision="32-true",
        accelerator="cpu",
        ema_decay=0.9,
        augment=AugmentConfig(enabled=False),
    )
    fit(model, SAMPLES, None, config, postprocess=POSTPROCESS, work_dir=None)
    # So few steps leave the running averages behind, by chance more or less.
    measure_batch_norm(model, calibration_batches(SAMPLES, num_images=len(SAMPLES)))
    return model


def config_of(*kept_fracs: float, granularity: int = 2, min_filters: int = 2) -> PruneConfig:
    sensitivity = SensitivityConfig(kept_fracs=list(kept_fracs))
    return PruneConfig(granularity=granularity, min_filters=min_filters, sensitivity=sensitivity)


def measure(model: DetectNet, config: PruneConfig) -> list[Sensitivity]:
    return measure_sensitivity(model, SAMPLES, config, postprocess=POSTPROCESS, device=CPU)


def test_keeping_everything_costs_and_saves_nothing(trained: DetectNet):
    rows = measure(trained, config_of(1.0))
    assert len(rows) == 9
    assert {row.ap50 for row in rows} == {rows[0].ap50}
    for row in rows:
        assert (row.ap50_drop, row.macs_saved_frac, row.params_saved_frac) == (0.0, 0.0, 0.0)


def test_each_row_is_what_removing_the_channels_gives(trained: DetectNet):
    config = config_of(0.75, 0.5)
    rows = measure(trained, config)
    whole = {name: list(range(depth)) for name, depth in trained.architecture.channels.items()}
    before = validate(copy.deepcopy(trained), SAMPLES, POSTPROCESS, device=CPU)
    assert before["ap50"] > 0.6
    for cut, row in zip(list_cuts(find_groups(trained, config), config), rows, strict=True):
        removed = remove_channels(trained, {**whole, **dict.fromkeys(cut.group.names, cut.keep)})
        after = validate(removed, SAMPLES, POSTPROCESS, device=CPU)
        assert row.convolutions == "+".join(cut.group.names)
        assert row.kept == removed.architecture.channels[cut.group.names[0]]
        # Sums in another order may let two nearly equal confidences change places.
        assert row.ap50 == pytest.approx(after["ap50"], abs=1e-3)
        assert row.ap == pytest.approx(after["ap"], abs=1e-3)
        assert row.ap50_drop == pytest.approx(before["ap50"] - after["ap50"], abs=1e-3)
    assert max(row.ap50_drop for row in rows) > 0.1


def test_saved_costs_are_those_of_the_layer_table():
    model = tiny_model()
    config = config_of(0.5)
    whole = {name: list(range(depth)) for name, depth in model.architecture.channels.items()}
    cuts = list_cuts(find_groups(model, config), config)
    for cut, row in zip(cuts, measure(model, config), strict=True):
        removed = remove_channels(model, {**whole, **dict.fromkeys(cut.group.names, cut.keep)})
        layers = compare_layers(model.architecture, removed.architecture)
        macs = [sum(one.macs_before for one in layers), sum(one.macs_after for one in layers)]
        params = [sum(one.numel() for one in net.parameters()) for net in (model, removed)]
        assert row.macs_saved_frac == pytest.approx(1.0 - macs[1] / macs[0])
        assert row.params_saved_frac == pytest.approx(1.0 - params[1] / params[0])


def test_the_rounding_of_pruning_holds_and_equal_cuts_are_measured_alike():
    rows = measure(tiny_model(width=8), config_of(0.75, 0.1, 0.0, granularity=4, min_filters=6))
    kept = {(row.channels, row.kept_frac): row.kept for row in rows}
    # 8: 6 -> 8; 1 and 0 -> 6 -> 8. 16: 12; 2 and 0 -> 6 -> 8. 32: 24; 3 and 0 -> 8. 64: 48; 6, 8.
    assert {depth: [kept[depth, frac] for frac in (0.75, 0.1, 0.0)] for depth in (8, 16, 64)} == {
        8: [8, 8, 8],
        16: [12, 8, 8],
        64: [48, 8, 8],
    }
    for few, none in zip(rows[1::3], rows[2::3], strict=True):
        assert few == none._replace(kept_frac=0.1)
    assert all(row.ap50_drop == 0.0 for row in rows if row.kept == row.channels)


def test_the_network_stays_as_it_is_and_the_goal_of_pruning_changes_nothing():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    config = config_of(0.5)
    first = measure(model, config)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert measure(model, dataclasses.replace(config, params_frac=0.9)) == first
