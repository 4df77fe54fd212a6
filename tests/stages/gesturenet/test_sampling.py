"""Every class equally often; in each, drawn hands in their share and no source above its own."""

import numpy as np
import pytest

from stages.gesturenet.sampling import DRAWN, balanced_order, mixed_order, source_names


def test_names_tell_sources_of_ones_own_from_drawn_ones() -> None:
    assert source_names(["a/two/a_1.jpg", "V_frame_0001#2", "drawn_3_0#1"]) == ["a", DRAWN, DRAWN]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.7, 1.0])
def test_drawn_hands_have_their_share_of_every_class(share: float) -> None:
    class_id = np.repeat([0, 1], 500)
    sources = ([DRAWN] * 100 + ["a"] * 300 + ["b"] * 100) * 2
    order = mixed_order(class_id, sources, np.random.default_rng(0), drawn_share=share)
    assert len(order) == 1000
    for one in (0, 1):
        members = order[class_id[order] == one]
        assert len(members) == 500
        is_drawn = np.array([sources[index] == DRAWN for index in members])
        assert is_drawn.mean() == pytest.approx(share, abs=0.005)


def test_other_sources_share_by_the_root_of_their_size() -> None:
    class_id = np.zeros(1000, int)
    sources = ["a"] * 900 + ["b"] * 100
    order = mixed_order(class_id, sources, np.random.default_rng(0), drawn_share=0.5)
    from_a = np.mean([sources[index] == "a" for index in order])
    assert from_a == pytest.approx(30 / 40, abs=0.005)


@pytest.mark.parametrize("kind", [DRAWN, "a"])
def test_a_class_of_one_kind_takes_all_from_it(kind: str) -> None:
    class_id = np.array([0] * 10 + [1] * 10)
    sources = [kind] * 10 + ["a", DRAWN] * 5
    order = mixed_order(class_id, sources, np.random.default_rng(1), drawn_share=0.3)
    assert np.bincount(class_id[order]).tolist() == [10, 10]


def test_a_class_comes_as_much_more_often_as_its_weight_says() -> None:
    class_id = np.arange(600) % 3
    sources = [DRAWN, "a"] * 300
    order = mixed_order(
        class_id, sources, np.random.default_rng(3), drawn_share=0.5, class_weights={2: 2.0}
    )
    assert np.bincount(class_id[order]).tolist() == [150, 150, 300]


def test_crops_come_in_whole_rounds() -> None:
    class_id = np.array([0] * 3 + [1] * 30)
    sources = [DRAWN] * 33
    order = mixed_order(class_id, sources, np.random.default_rng(2), drawn_share=0.5)
    counts = np.bincount(order, minlength=33)
    assert counts[:3].max() - counts[:3].min() <= 1
    assert counts[3:].max() <= 1


def test_equal_seeds_give_equal_orders() -> None:
    class_id, sources = np.arange(40) % 4, [DRAWN, "a"] * 20
    orders = [
        mixed_order(class_id, sources, np.random.default_rng(5), drawn_share=0.5) for _ in range(2)
    ]
    assert np.array_equal(*orders)
    assert np.array_equal(
        np.sort(balanced_order(class_id, np.random.default_rng(5))), np.arange(40)
    )
