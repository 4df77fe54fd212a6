"""Command lines of every generation, as NVIDIA's notebooks have them."""

import pytest

from stages.detectnet.compression_config import PruneConfig
from stages.tao import commands
from stages.tao.config import TaoConfig
from stages.tao.errors import TaoError
from stages.tao.generations import find_generation

OPEN, CLOSED = find_generation("tao5"), find_generation("tlt3")
PRUNE = PruneConfig(threshold=5.2e-6, params_frac=None, importance="l2")


def test_dataset_convert() -> None:
    arguments = {"spec": "s.txt", "prefix": "out", "results": "r"}
    assert (
        " ".join(commands.dataset_convert(OPEN, **arguments))
        == "dataset_convert -d s.txt -o out -r r"
    )
    assert (
        " ".join(commands.dataset_convert(CLOSED, **arguments))
        == "dataset_convert -d s.txt -o out"
    )


@pytest.mark.parametrize(
    ("config", "key", "expected"),
    [
        (TaoConfig(), None, "train -e s -r r -n net --gpus 1"),
        (TaoConfig(), "k", "train -e s -r r -k k -n net --gpus 1"),
        (
            TaoConfig(gpus=2, gpu_indices=[1, 3], use_amp=True),
            None,
            "train -e s -r r -n net --gpus 2 --gpu_index 1 3 --use_amp",
        ),
    ],
)
def test_train(config: TaoConfig, key: str | None, expected: str) -> None:
    found = commands.train(config, spec="s", results="r", name="net", key=key)
    assert " ".join(found) == expected


def test_evaluate() -> None:
    arguments = {"spec": "s", "model": "m", "results": "r"}
    assert " ".join(commands.evaluate(OPEN, **arguments, key=None)) == "evaluate -e s -m m -r r"
    assert " ".join(commands.evaluate(CLOSED, **arguments, key="k")) == "evaluate -e s -m m -k k"


def test_prune_writes_the_threshold_without_an_exponent() -> None:
    arguments = {"model": "in", "output": "out", "results": "r"}
    rest = "-eq union -pth 0.0000052 -n max -pg 8 -nf 16"
    assert " ".join(commands.prune(CLOSED, PRUNE, **arguments, key="k")) == (
        f"prune -m in -o out -k k {rest}"
    )
    assert " ".join(commands.prune(OPEN, PRUNE, **arguments, key=None)) == (
        f"prune -m in -o out {rest} --results_dir r"
    )


def test_export() -> None:
    arguments = {"spec": "s", "model": "m", "output": "o", "results": "r"}
    assert " ".join(commands.export(OPEN, **arguments, key=None, ranges="c.json")) == (
        "export -m m -o o -e s --onnx_route tf2onnx --cal_json_file c.json --results_dir r"
    )
    assert " ".join(commands.export(CLOSED, **arguments, key="k", ranges="c.bin")) == (
        "export -m m -o o -k k --data_type int8 --cal_cache_file c.bin --verbose"
    )


def test_inference_calls_its_output_by_another_flag_from_tao_5_on() -> None:
    arguments = {"spec": "s", "images": "i", "output": "o", "model": "m"}
    assert (
        " ".join(commands.inference(OPEN, **arguments, key=None))
        == "inference -e s -i i -r o -m m"
    )
    assert " ".join(commands.inference(CLOSED, **arguments, key="k")) == (
        "inference -e s -o o -i i -k k"
    )


@pytest.mark.parametrize("argument", ["a b", "a;b", "$HOME", "it's", "a|b", "", "ü"])
def test_an_argument_that_a_shell_would_change_is_refused(argument: str) -> None:
    with pytest.raises(TaoError, match="would be changed by the launcher's shell"):
        commands.check_safe(["train", argument], secret=None)


def test_an_encrypted_file_needs_a_key_of_the_open_generations_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TAO_KEY", raising=False)
    assert commands.read_key(OPEN) is None
    with pytest.raises(TaoError, match="export TAO_KEY=tlt_encode"):
        commands.read_key(OPEN, needed=True)
    monkeypatch.setenv("TAO_KEY", "tlt_encode")
    assert commands.read_key(OPEN) == "tlt_encode"
