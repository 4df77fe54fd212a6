"""Pair rows with columns so that the sum of the pairs' scores is largest (the assignment problem).

Method: shortest augmenting paths with dual potentials, rows one after another, O(rows^2 * columns)
(Kuhn 1955; Jonker and Volgenant 1987, without their initialisation). Plain lists: for the few
hands of a frame that is faster than NumPy.
"""

from typing import List, Optional

import numpy as np

UNPAIRED = -1


def assign_pairs(scores: np.ndarray, *, least_score: float) -> List[int]:
    """Return the column of each row, -1 for none, such that the sum of scores is largest.

    scores: (R, C), may be empty, NaN counts as below least_score. Pairs below least_score are
    never made; a row stays unpaired rather than that. Ties go to the earlier row, then column.
    Raises ValueError unless least_score > 0 (a pair has to be better than none).
    """
    if not least_score > 0:
        raise ValueError(f"least_score {least_score}; expected more than 0")
    num_rows, num_columns = scores.shape
    possible = scores >= least_score
    only = _only_pairs(possible.tolist())
    if only is not None:
        return only
    # A column of its own for each row means no pair, at no cost; a pair gains its score.
    costs = np.zeros((num_rows, num_columns + num_rows))
    costs[:, :num_columns] = np.where(possible, -scores, float(num_rows))
    columns = _cheapest_columns(costs.tolist())
    return [column if column < num_columns else UNPAIRED for column in columns]


def _only_pairs(possible: List[List[bool]]) -> Optional[List[int]]:
    """Return the column of each row where no row and no column has a choice; else None."""
    columns = [row.index(True) if True in row else UNPAIRED for row in possible]
    taken = [column for column in columns if column != UNPAIRED]
    has_choice = len(set(taken)) < len(taken) or any(row.count(True) > 1 for row in possible)
    return None if has_choice else columns


def _cheapest_columns(costs: List[List[float]]) -> List[int]:
    """Give each row a column of its own at the least total cost; there are enough columns."""
    num_rows, num_columns = len(costs), len(costs[0])
    row_price = [0.0] * num_rows
    column_price = [0.0] * num_columns
    row_of = [UNPAIRED] * num_columns
    for row in range(num_rows):
        distance = [float("inf")] * num_columns
        previous = [UNPAIRED] * num_columns  # the column before, on the cheapest path
        done: List[int] = []
        last, here, reached = UNPAIRED, row, 0.0
        while here != UNPAIRED:
            nearest, nearest_distance = UNPAIRED, float("inf")
            for column in range(num_columns):
                if column in done:
                    continue
                step = costs[here][column] - row_price[here] - column_price[column] + reached
                if step < distance[column]:
                    distance[column], previous[column] = step, last
                if distance[column] < nearest_distance:
                    nearest, nearest_distance = column, distance[column]
            last, reached = nearest, nearest_distance
            here = row_of[last]
            done.append(last)
        row_price[row] += reached
        for column in done[:-1]:
            row_price[row_of[column]] += reached - distance[column]
            column_price[column] -= reached - distance[column]
        while last != UNPAIRED:
            before = previous[last]
            row_of[last] = row if before == UNPAIRED else row_of[before]
            last = before
    column_of = [0] * num_rows
    for column, owner in enumerate(row_of):
        if owner != UNPAIRED:
            column_of[owner] = column
    return column_of
