"""Pairs: by table, and against trying every pairing."""

import itertools

import numpy as np
import pytest

from deploy.core.assignment import assign_pairs


def best_sum(scores, least):
    """The largest sum of scores that any pairing has, by trying all of them."""
    num_rows, num_columns = scores.shape
    places = list(range(num_columns)) + [None] * num_rows
    return max(
        sum(
            scores[row, column]
            for row, column in enumerate(chosen)
            if column is not None and scores[row, column] >= least
        )
        for chosen in set(itertools.permutations(places, num_rows))
    )


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (np.zeros((0, 0)), []),
        (np.zeros((0, 3)), []),
        (np.zeros((2, 0)), [-1, -1]),
        ([[0.0, 0.0]], [-1]),
        ([[0.2]], [0]),
        ([[0.19]], [-1]),
        ([[np.nan, 0.5]], [1]),
        ([[0.9, 0.0], [0.0, 0.9]], [0, 1]),
        ([[0.5, 0.4], [0.45, 0.0]], [1, 0]),  # the largest first would leave the second alone
        ([[0.9, 0.4], [0.45, 0.0]], [0, -1]),
        ([[1.0, 1.0], [1.0, 1.0]], [0, 1]),
        ([[1.0], [1.0], [1.0]], [0, -1, -1]),
        ([[0.3, 0.3, 0.8], [0.0, 0.3, 0.9]], [0, 2]),
    ],
)
def test_pairs_by_table(scores, expected):
    assert assign_pairs(np.array(scores), least_score=0.2) == expected


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (3, 2), (3, 3), (2, 4), (4, 3)])
def test_sum_is_the_largest_of_all_pairings(shape):
    rng = np.random.RandomState(sum(shape))
    for _ in range(40):
        scores = rng.uniform(0, 1, shape) * (rng.uniform(0, 1, shape) < 0.7)
        pairs = assign_pairs(scores, least_score=0.25)
        made = [(row, column) for row, column in enumerate(pairs) if column >= 0]
        assert len({column for _, column in made}) == len(made)
        assert all(scores[pair] >= 0.25 for pair in made)
        assert sum(scores[pair] for pair in made) == pytest.approx(best_sum(scores, 0.25))


def test_scores_are_not_changed():
    scores = np.array([[0.5, 0.4], [0.45, 0.3]])
    kept = scores.copy()
    assign_pairs(scores, least_score=0.2)
    np.testing.assert_array_equal(scores, kept)


@pytest.mark.parametrize("least", [0.0, -1.0, float("nan")])
def test_pair_must_be_worth_more_than_none(least):
    with pytest.raises(ValueError, match="more than 0"):
        assign_pairs(np.zeros((1, 1)), least_score=least)
