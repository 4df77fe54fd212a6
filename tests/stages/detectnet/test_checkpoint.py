import pytest
import torch

from deploy.core.model_json import check_sha256, read_model_json
from stages.detectnet.checkpoint import load_checkpoint, load_model, save_model
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


def spoil_channels(path):
    payload = torch.load(path, weights_only=True)
    payload["architecture"]["channels"]["conv1"] = 5
    torch.save(payload, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, "is not there; run the stages before"),
        (spoil_truncated, "is not a model file or is damaged"),
        (spoil_text, "is not a model file or is damaged"),
        (spoil_schema, "has schema 9, this program reads 1"),
        (spoil_channels, "does not fit this program"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, spoil, message):
    folder = make_folder(tmp_path / "model", tiny_model())
    spoil(folder / "model.pt")
    with pytest.raises(DetectNetError) as raised:
        load_model(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
