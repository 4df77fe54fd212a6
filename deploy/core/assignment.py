"""Pair rows with columns so that the sum of the pairs' scores is largest (the assignment problem).

Method: shortest augmenting paths with dual potentials, rows one after another, O(rows^2 * columns)
(Kuhn 1955; Jonker and Volgenant 1987, without their initialisation). Plain lists: for the few
hands of a frame that is faster than NumPy.
"""

from typing import List, Optional, Sequence

UNPAIRED = -1


def assign_pairs(scores: Sequence[Sequence[float]], *, least_score: float) -> List[int]:
    """Return the column of each row, -1 for none, such that the sum of scores is largest.

    scores: rows of equal length, (R, C), may be empty, NaN counts as below least_score. Pairs
    below least_score are never made; a row stays unpaired rather than that. Ties go to the earlier
    row, then column.
    Raises ValueError unless least_score > 0 (a pair has to be better than none).
    """
    if not least_score > 0:
        raise ValueError(f"least_score {least_score}; expected more than 0")
    possible = [
        [column for column, score in enumerate(row) if score >= least_score] for row in scores
    ]
    only = _only_pairs(possible)
    if only is not None:
        return only
    num_rows, num_columns = len(scores), len(scores[0])
    # A column of its own for each row means no pair, at no cost; a pair gains its score.
    costs = []
    for row, columns in zip(scores, possible):
        cost = [float(num_rows)] * num_columns + [0.0] * num_rows
        for column in columns:
            cost[column] = -float(row[column])
        costs.append(cost)
    chosen = _cheapest_columns(costs)
    return [column if column < num_columns else UNPAIRED for column in chosen]


def _only_pairs(possible: List[List[int]]) -> Optional[List[int]]:
    """Return the column of each row where no row and no column has a choice; else None.

    possible: the columns that each row may be paired with.
    """
    if any(len(columns) > 1 for columns in possible):
        return None
    taken = [columns[0] for columns in possible if columns]
    if len(set(taken)) < len(taken):
        return None
    return [columns[0] if columns else UNPAIRED for columns in possible]


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
