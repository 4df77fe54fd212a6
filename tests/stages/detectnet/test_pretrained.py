import dataclasses
import logging

import pytest
import torch

from stages.detectnet.checkpoint import save_model
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.model import Architecture, DetectNet
from stages.detectnet.pretrained import Taken, take_weights
from tests.stages.detectnet.tiny import POSTPROCESS, known_ranges, tiny_images, tiny_model

# Of resnet10 with all projections: 13 convolutions with batch normalisation, and two heads.
NUM_LAYERS = 28


@pytest.fixture
def folder(tmp_path):
    """The model folder of a network with lively weights and statistics."""
    return make_folder(tmp_path / "earlier", tiny_model())


def make_folder(path, model, **options):
    path.mkdir()
    save_model(path, model, postprocess=POSTPROCESS, **options)
    return path


def new_network(architecture: Architecture) -> DetectNet:
    torch.manual_seed(3)
    return DetectNet(architecture)


def other_network(*, channels=None, **changes):
    """A new network like that of the folder but for the changes."""
    earlier = tiny_model().architecture
    channels = {**earlier.channels, **(channels or {})}
    return new_network(dataclasses.replace(earlier, channels=channels, **changes))


def states_of(model, *names):
    return [model.get_submodule(name).state_dict() for name in names]


def are_equal(states, others):
    return all(
        torch.equal(tensor, other[name])
        for state, other in zip(states, others, strict=True)
        for name, tensor in state.items()
    )


@pytest.mark.parametrize("place", ["", "model.pt"])
def test_an_equal_network_takes_every_layer_bit_for_bit(folder, caplog, place):
    model = other_network()
    with caplog.at_level(logging.INFO):
        taken = take_weights(model, folder / place)
    assert (len(taken.names), dict(taken.left_out)) == (NUM_LAYERS, {})
    earlier = tiny_model().state_dict()
    assert model.state_dict().keys() == earlier.keys()
    assert all(torch.equal(value, earlier[name]) for name, value in model.state_dict().items())
    assert not torch.equal(model.bn_conv1.running_mean, torch.zeros(8))
    expected = f"model.pretrained: 28 of 28 layers taken from {folder / place}"
    assert caplog.messages == [expected]


def test_another_width_of_one_stage_takes_the_layers_that_agree(folder, caplog):
    names = [f"block_4a_conv_{part}" for part in ("1", "2", "shortcut")]
    model = other_network(channels=dict.fromkeys(names, 48))
    untouched = [*names, "block_4a_bn_1", "block_4a_bn_2", "block_4a_bn_shortcut"]
    untouched += ["output_cov", "output_bbox"]
    before = states_of(other_network(channels=dict.fromkeys(names, 48)), *untouched)
    with caplog.at_level(logging.INFO):
        taken = take_weights(model, folder)
    assert dict(taken.left_out) == dict.fromkeys(untouched, "shape")
    assert are_equal(states_of(model, *untouched), before)
    assert len(taken.names) == NUM_LAYERS - 8
    assert are_equal(states_of(model, *taken.names), states_of(tiny_model(), *taken.names))
    assert caplog.messages[0].startswith(f"model.pretrained: 20 of 28 layers taken from {folder}")
    assert caplog.messages[0].endswith("block_4a_bn_shortcut (shape) and 2 more")


def test_other_classes_leave_the_heads_out_though_a_bias_may_agree(tmp_path, caplog):
    architecture = dataclasses.replace(tiny_model().architecture, num_classes=4)
    folder = make_folder(tmp_path / "four", new_network(architecture).eval())
    model = other_network()
    with caplog.at_level(logging.INFO):
        taken = take_weights(model, folder)
    assert taken == Taken(taken.names, {"output_cov": "shape", "output_bbox": "shape"})
    assert caplog.messages == [
        f"model.pretrained: 26 of 28 layers taken from {folder}, "
        "left out: output_cov (shape), output_bbox (shape)"
    ]


def test_a_deeper_network_takes_the_blocks_that_the_file_has(folder):
    model = tiny_model(num_layers=18)
    taken = take_weights(model, folder)
    assert len(taken.names) == NUM_LAYERS
    assert set(taken.left_out.values()) == {"missing"}
    assert {name[: len("block_1b")] for name in taken.left_out} == {
        f"block_{stage}b" for stage in (1, 2, 3, 4)
    }
    assert are_equal(states_of(model, *taken.names), states_of(tiny_model(), *taken.names))


def test_another_input_size_is_no_other_shape(folder):
    taken = take_weights(other_network(input_wh=[160, 96]), folder)
    assert len(taken.names) == NUM_LAYERS


def test_no_layer_that_agrees_is_one_line_with_both_architectures(folder):
    model = tiny_model(num_layers=18, width=16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DetectNetError) as raised:
        take_weights(model, folder)
    message = str(raised.value)
    assert "\n" not in message
    assert f"no layer of {folder} (resnet10 of width 8 at 96x64)" in message
    assert "fits the network (resnet18 of width 16 at 96x64); expected layers of" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("quantized", [False, True])
def test_a_folded_and_an_8_bit_network_are_refused(tmp_path, quantized):
    folded = fold_batch_norm(tiny_model())
    ranges = known_ranges(folded, tiny_images()) if quantized else None
    folder = make_folder(tmp_path / "retrain", folded, ranges=ranges)
    kind = "an 8-bit network" if quantized else "folded into its convolutions"
    with pytest.raises(DetectNetError, match=f"{folder} is {kind}, expected a float network"):
        take_weights(other_network(), folder)


@pytest.mark.parametrize("place", ["nothing", "earlier/other.pt", "earlier/model.json", "."])
def test_a_path_without_a_model_is_one_line(folder, place):
    (folder / "other.pt").write_bytes((folder / "model.pt").read_bytes())
    path = folder.parent / place
    with pytest.raises(DetectNetError, match=f"model.pretrained is {path}; there is no such"):
        take_weights(other_network(), path)


def test_a_damaged_file_and_a_lonely_one_are_one_line(folder):
    path = folder / "model.pt"
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    with pytest.raises(DetectNetError, match=r"^model\.pretrained: .* is damaged"):
        take_weights(other_network(), folder)
    torch.save({"model": tiny_model().state_dict()}, path)
    with pytest.raises(DetectNetError, match=r"^model\.pretrained: .* is no model file"):
        take_weights(other_network(), folder)
    path.write_bytes(content)
    (folder / "model.json").unlink()
    with pytest.raises(DetectNetError, match=r"^model\.pretrained: .*model\.json: no such file"):
        take_weights(other_network(), path)
