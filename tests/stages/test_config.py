"""Composition and validation, on a small conf/ of the test's own and on the real one."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from stages import _config
from stages._config import (
    ConfigError,
    GroupChangeError,
    compose,
    load_resolved,
    section_of,
    write_resolved,
)

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LossConfig:
    weight: float = 1.0


@dataclass(frozen=True)
class WarmupConfig:
    steps: int = 10


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 3
    learning_rate: float = 1.0e-3
    loss: LossConfig = field(default_factory=LossConfig)
    warmup: WarmupConfig | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"train.epochs is {self.epochs}, expected 1 or more")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one group, `train`, of two choices, and one experiment."""
    monkeypatch.setattr(_config, "SECTIONS", {"train": TrainConfig})
    monkeypatch.setattr(_config, "GROUPS", ("train", "experiment"))
    files = {
        "conf/config.yaml": "defaults:\n  - _self_\n  - train: short\n",
        "conf/train/short.yaml": "epochs: 3\n",
        "conf/train/off.yaml": "epochs: 1\n",
        "conf/train/long.yaml": "epochs: 30\nloss:\n  weight: 2.0\n",
        "conf/experiment/big.yaml": (
            "# @package _global_\ndefaults:\n  - override /train: long\n"
            "train:\n  learning_rate: 0.1\n"
        ),
        "params.yaml": "train: null\nexperiment: null\noverrides: {}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def composed(project: Path, params: str) -> dict:
    (project / "params.yaml").write_text(params)
    return compose(project / "params.yaml", project / "conf")


def test_null_means_the_default_and_the_schema_fills_the_rest(project: Path):
    expected = {
        "epochs": 3,
        "learning_rate": 0.001,
        "loss": {"weight": 1.0},
        "warmup": None,
    }
    assert composed(project, "train: null\n") == {"train": expected}


@pytest.mark.parametrize(
    ("params", "epochs", "rate", "weight"),
    [
        ("train: long\n", 30, 0.001, 2.0),
        ("train: off\n", 1, 0.001, 1.0),  # PyYAML reads this as false
        ("experiment: big\n", 30, 0.1, 2.0),
        ("experiment: big\ntrain: short\n", 3, 0.1, 1.0),
        ("overrides: {train: {epochs: 7}}\n", 7, 0.001, 1.0),
        ("experiment: big\noverrides: {train: {loss: {weight: 5}}}\n", 30, 0.1, 5.0),
    ],
)
def test_choices_experiments_and_overrides_in_that_order(
    project: Path, params: str, epochs: int, rate: float, weight: float
):
    train = composed(project, params)["train"]
    assert (train["epochs"], train["learning_rate"], train["loss"]["weight"]) == (
        epochs,
        rate,
        weight,
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("trian: long\n", ["trian", "train, experiment, overrides"]),
        ("train: huge\n", ["huge", "long", "short"]),
        ("train: 3\n", ["train", "is 3", "conf/train"]),
        ("overrides: {train: {epoch: 7}}\n", ["train.epoch", "epochs, learning_rate, loss"]),
        ("overrides: {train: {loss: {wieght: 7}}}\n", ["train.loss.wieght", "known keys: weight"]),
        ("overrides: {train: {warmup: {step: 7}}}\n", ["train.warmup.step", "known keys: steps"]),
        ("overrides: {train: {epochs: many}}\n", ["train.epochs", "many"]),
        ("overrides: {train: {epochs: 0}}\n", ["train.epochs is 0", "expected 1 or more"]),
        ("overrides: {trian: {epochs: 1}}\n", ["trian", "known: train"]),
        ("overrides: 3\n", ["overrides", "3"]),
        ("- a list\n", ["list", "expected a mapping"]),
        ("a: b: c\n", ["not YAML"]),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_key_and_known_ones(
    project: Path, params: str, words: list[str]
):
    with pytest.raises(ConfigError) as error:
        composed(project, params)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_resolved_is_rewritten_only_when_it_changes(project: Path):
    path = project / "resolved.yaml"
    write_resolved({"train": {"epochs": 3}}, path)
    before = path.stat().st_mtime_ns
    write_resolved({"train": {"epochs": 3}}, path)
    assert path.stat().st_mtime_ns == before
    write_resolved({"train": {"epochs": 4}}, path)
    assert yaml.safe_load(path.read_text()) == {"train": {"epochs": 4}}


def test_values_change_by_hand_in_hydras_grammar(project: Path):
    write_resolved(composed(project, "train: long\n"), project / "resolved.yaml")
    resolved = load_resolved(
        project / "resolved.yaml", ["train.epochs=1", "train.loss.weight=0.5"]
    )
    assert section_of(resolved, TrainConfig) == TrainConfig(1, 0.001, LossConfig(0.5))


@pytest.mark.parametrize(
    ("override", "error", "word"),
    [
        ("train=long", GroupChangeError, "dvc exp run -S train=long"),
        ("train.epochs=1,2", ConfigError, "single value"),
        ("~train.epochs", ConfigError, "key=value"),
        ("train.nothing=1", ConfigError, "train.nothing"),
        ("train.epochs", ConfigError, "train.epochs"),
    ],
)
def test_what_cannot_change_by_hand_is_refused(
    project: Path, override: str, error: type[Exception], word: str
):
    write_resolved(composed(project, "train: long\n"), project / "resolved.yaml")
    with pytest.raises(error) as caught:
        load_resolved(project / "resolved.yaml", [override])
    assert word in str(caught.value)


def test_no_resolved_yaml_names_the_next_step(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"python -m stages\.compose"):
        load_resolved(tmp_path / "resolved.yaml")


def every_choice() -> list[str]:
    return sorted(str(p.relative_to(ROOT / "conf")) for p in (ROOT / "conf").glob("*/*.yaml"))


@pytest.mark.parametrize("choice", every_choice())
def test_every_choice_of_conf_composes_and_its_file_says_what_it_is(choice: str, tmp_path: Path):
    group, name = choice.removesuffix(".yaml").split("/")
    (tmp_path / "params.yaml").write_text(f"{group}: {yaml.safe_dump(name).splitlines()[0]}\n")
    assert set(compose(tmp_path / "params.yaml", ROOT / "conf")) == set(_config.SECTIONS)
    assert "# What it is:" in (ROOT / "conf" / choice).read_text()


def test_the_committed_resolved_yaml_is_what_conf_and_params_give():
    assert yaml.safe_load((ROOT / "resolved.yaml").read_text()) == compose(
        ROOT / "params.yaml", ROOT / "conf"
    )
