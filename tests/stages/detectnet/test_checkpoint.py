import random
import re

import pytest
import torch

from deploy.core.model_json import check_sha256, read_model_json
from stages.detectnet.checkpoint import (
    load_checkpoint,
    load_float_model,
    load_model,
    save_model,
)
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import fold_batch_norm
from stages.detectnet.inference import open_torch_model
from tests.stages.detectnet.tiny import POSTPROCESS, known_ranges, tiny_images, tiny_model


def make_folder(path, model, **options):
    path.mkdir()
    save_model(path, model, postprocess=POSTPROCESS, **options)
    return path


@pytest.mark.parametrize("folded", [False, True])
def test_a_float_network_comes_back_equal(tmp_path, folded):
    model = fold_batch_norm(tiny_model()) if folded else tiny_model()
    loaded = load_model(make_folder(tmp_path / "model", model))
    assert loaded.architecture == model.architecture
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(tiny_images()).bbox, model(tiny_images()).bbox)


def test_ranges_come_back_and_round(tmp_path):
    model = fold_batch_norm(tiny_model())
    ranges = known_ranges(model, tiny_images())
    folder = make_folder(tmp_path / "model", model, ranges=ranges)
    loaded = load_checkpoint(folder).ranges
    assert loaded.keys() == ranges.keys()
    assert all(torch.equal(loaded[name], ranges[name]) for name in ranges)
    with torch.no_grad():
        assert not torch.equal(load_model(folder)(tiny_images()).bbox, model(tiny_images()).bbox)


def test_equal_networks_give_equal_bytes_in_any_memory_format(tmp_path):
    one = make_folder(tmp_path / "one", tiny_model())
    two = make_folder(tmp_path / "two", tiny_model().to(memory_format=torch.channels_last))
    for name in ("model.pt", "model.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_model_json_describes_the_tensors(tmp_path):
    folder = make_folder(tmp_path / "model", tiny_model())
    info = read_model_json(folder)
    check_sha256(folder, info)
    assert info.kind == "detector"
    assert info.input_shape == (3, 64, 96)
    assert dict(info.outputs) == {
        "output_cov/Sigmoid": (1, 4, 6),
        "output_bbox/BiasAdd": (4, 4, 6),
    }
    assert (info.grid.stride, info.grid.scale, info.grid.offset) == (16, 35.0, 0.5)
    assert info.postprocess == POSTPROCESS


def test_inference_has_the_engine_interface(tmp_path):
    folder = make_folder(tmp_path / "model", tiny_model())
    with open_torch_model(folder) as engine:
        maps = engine.infer(tiny_images(3).numpy())
        info = engine.info()
    assert maps["output_cov/Sigmoid"].shape == (3, 1, 4, 6)
    assert maps["output_bbox/BiasAdd"].shape == (3, 4, 4, 6)
    assert (info["runtime"], info["precision"]) == ("torch", "fp32")
    with torch.no_grad():
        expected = tiny_model()(tiny_images(3))
    assert torch.equal(torch.from_numpy(maps["output_cov/Sigmoid"]), expected.coverage)


def spoil_missing(path):
    path.unlink()


def spoil_truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def spoil_text(path):
    path.write_text("no model")


def spoil_schema(path):
    torch.save({"schema": 9}, path)


def spoil_module(path):
    torch.save(tiny_model(), path)


def spoil_list(path):
    torch.save([1, 2], path)


def spoil_other_program(path):
    torch.save({"model": tiny_model().state_dict(), "epoch": 3}, path)


def spoil_torchscript(path):
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(str(path))


def change(*keys, to=None):
    """Make a change of one entry of the file: set it, or remove it where nothing is given."""

    def spoil(path):
        payload = torch.load(path, weights_only=True)
        inner = payload
        for key in keys[:-1]:
            inner = inner[key]
        if to is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = to
        torch.save(payload, path)

    return spoil


def spoil_width(path):
    payload = torch.load(path, weights_only=True)
    channels = payload["architecture"]["channels"]
    payload["architecture"]["channels"] = {name: 2 * count for name, count in channels.items()}
    torch.save(payload, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, "is not there; run the stages before"),
        (spoil_truncated, "is not a model file or is damaged"),
        (spoil_text, "is not a model file or is damaged"),
        (spoil_module, "is not a model file or is damaged"),
        (spoil_list, "holds a list, not a model file"),
        (spoil_other_program, "is no model file: it lacks schema"),
        (spoil_schema, "has schema 9, this program reads 1"),
        (change("state_dict"), "(it lacks state_dict)"),
        (change("architecture"), "(it lacks architecture)"),
        (change("architecture", "activation", to="tanh"), "activation is 'tanh'; known:"),
        (change("architecture", "num_layers", to=50), "num_layers is 50; known: [10, 18, 34]"),
        (change("architecture", "num_layers", to=18), "channels lack or add the layers"),
        (change("architecture", "input_wh", to=[96, 60]), "input_wh is [96, 60]; expected two"),
        (change("architecture", "channels", "conv1", to=5), "conv1.weight has the shape (8, 3"),
        (spoil_width, "(8, 3, 7, 7), its architecture says (16, 3, 7, 7)"),
        (change("state_dict", "conv1.bias"), "conv1.bias is missing"),
        (change("state_dict", "conv9.bias", to=torch.ones(1)), "conv9.bias is not in its arch"),
        (change("state_dict", "conv1.bias", to=torch.ones(8)), "is not the file that model.json"),
        (change("ranges", "conv1.input_quantizer"), "1 ranges are missing, the first is conv1.i"),
        (change("ranges", "conv1.weight_quantizer", to=torch.ones(3)), "expected (8,)"),
        (change("ranges", "conv1.input_quantizer", to=torch.zeros(1)), "that is not above 0"),
    ],
)
def test_a_broken_or_foreign_file_is_one_line_with_a_next_step(tmp_path, spoil, message):
    model = fold_batch_norm(tiny_model())
    folder = make_folder(tmp_path / "model", model, ranges=known_ranges(model, tiny_images()))
    spoil(folder / "model.pt")
    with pytest.raises(DetectNetError) as raised:
        load_model(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert re.search(r"; (restore|run the stages?) ", str(raised.value))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_file_is_one_line(tmp_path):
    folder = make_folder(tmp_path / "model", tiny_model())
    spoil_torchscript(folder / "model.pt")
    with pytest.raises(DetectNetError, match="is not a model file or is damaged"):
        load_model(folder)


def test_damage_anywhere_is_one_line(tmp_path):
    """Sixty files, each with some bytes changed in its pickled part or its list of contents."""
    folder = make_folder(tmp_path / "model", tiny_model())
    path = folder / "model.pt"
    content = path.read_bytes()
    places = [*range(4000), *range(len(content) - 4000, len(content))]
    draw = random.Random(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in draw.sample(places, 20):
            damaged[place] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(DetectNetError):
            load_model(folder)


def test_an_8_bit_network_is_refused_where_a_float_one_is_expected(tmp_path):
    model = fold_batch_norm(tiny_model())
    make_folder(tmp_path / "train", tiny_model())
    make_folder(tmp_path / "prune", model, ranges=known_ranges(model, tiny_images()))
    assert load_float_model(tmp_path / "train").architecture == model.architecture
    with pytest.raises(
        DetectNetError, match="is an 8-bit network.*write it again: dvc repro prun"
    ):
        load_float_model(tmp_path / "prune")
