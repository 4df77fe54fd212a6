"""Train, val and test share no tone, hue, room or patterned cloth."""

import itertools

import numpy as np
import pytest

from stages.datasets.render.appearance import CLOTHS, SPLITS, TABLES, WALLS, owner_of, sample_unit
from stages.datasets.render.background import TEXTURES


@pytest.mark.parametrize("split", SPLITS)
def test_samples_belong_to_their_split_and_cover_the_range(split: str) -> None:
    rng = np.random.default_rng(0)
    values = [sample_unit(rng, split) for _ in range(400)]
    assert {owner_of(value) for value in values} == {split}
    assert min(values) < 0.2
    assert max(values) > 0.8


@pytest.mark.parametrize("families", [WALLS, TABLES])
def test_room_families_are_disjoint_and_drawn(families: dict[str, tuple[str, ...]]) -> None:
    for first, second in itertools.combinations(SPLITS, 2):
        assert not set(families[first]) & set(families[second])
    assert {name for names in families.values() for name in names} <= set(TEXTURES)


def test_patterned_cloths_are_disjoint() -> None:
    for first, second in itertools.combinations(SPLITS, 2):
        assert set(CLOTHS[first]) & set(CLOTHS[second]) == {"plain"}


def test_unknown_split_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        sample_unit(np.random.default_rng(0), "holdout")
