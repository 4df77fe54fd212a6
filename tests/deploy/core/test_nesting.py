"""A hand in the box of its forearm is preferred to that; hands that only touch stay."""

import numpy as np
import pytest

from deploy.core.nesting import prefer_inner

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

PROPERTY = hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
SHARE = 0.75


def cell(confidence, *edges, kind=0):
    return (-confidence, kind) + tuple(float(edge) for edge in edges)


ARM = (0, 0, 100, 200)
HAND = (20, 140, 80, 200)


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ([], []),
        ([cell(0.5, *ARM)], [cell(0.5, *ARM)]),
        # The hand takes over the arm's confidence,
        ([cell(0.8, *ARM), cell(0.61, *HAND)], [cell(0.8, *HAND)]),
        # or keeps its own, which is larger.
        ([cell(0.9, *HAND), cell(0.8, *ARM)], [cell(0.9, *HAND)]),
        # Too weak beside the arm, by very little.
        ([cell(0.8, *ARM), cell(0.599, *HAND)], [cell(0.8, *ARM), cell(0.599, *HAND)]),
        # Of another class.
        (
            [cell(0.8, *ARM), cell(0.7, *HAND, kind=1)],
            [cell(0.8, *ARM), cell(0.7, *HAND, kind=1)],
        ),
        # Nine tenths of it in the other one, and less.
        ([cell(0.8, *ARM), cell(0.7, 20, 146, 80, 206)], [cell(0.8, 20, 146, 80, 206)]),
        (
            [cell(0.8, *ARM), cell(0.7, 20, 147, 80, 207)],
            [cell(0.8, *ARM), cell(0.7, 20, 147, 80, 207)],
        ),
        # 0.45 of its area, and more.
        ([cell(0.8, *ARM), cell(0.7, 0, 0, 100, 90)], [cell(0.8, 0, 0, 100, 90)]),
        (
            [cell(0.8, *ARM), cell(0.7, 0, 0, 100, 91)],
            [cell(0.8, *ARM), cell(0.7, 0, 0, 100, 91)],
        ),
        # Without width, at the picture's edge.
        (
            [cell(0.8, *ARM), cell(0.7, 0, 10, 0, 50)],
            [cell(0.8, *ARM), cell(0.7, 0, 10, 0, 50)],
        ),
        # Of two hands in a box the surer one takes over.
        (
            [cell(0.9, *ARM), cell(0.8, 0, 0, 40, 40), cell(0.7, *HAND)],
            [cell(0.9, 0, 0, 40, 40), cell(0.7, *HAND)],
        ),
        # Three in each other: what the arm gave to the wrist goes on to the hand.
        (
            [cell(0.8, *ARM), cell(0.7, 0, 120, 100, 200), cell(0.65, 60, 140, 90, 180)],
            [cell(0.8, 60, 140, 90, 180)],
        ),
        # The hand is sure enough for the wrist, but not for what the arm gave that.
        (
            [cell(0.8, *ARM), cell(0.7, 0, 120, 100, 200), cell(0.55, 60, 140, 90, 180)],
            [cell(0.8, 0, 120, 100, 200), cell(0.55, 60, 140, 90, 180)],
        ),
    ],
)
def test_outer_boxes_give_way(cells, wanted):
    assert prefer_inner(cells, SHARE) == wanted


@st.composite
def boxes(draw):
    """Cells with edges and confidences of few values, so that boxes contain each other."""
    edge, size = st.integers(0, 6), st.integers(0, 6)
    cells = []
    for _ in range(draw(st.integers(0, 8))):
        left, top = draw(edge), draw(edge)
        place = (left, top, left + draw(size), top + draw(size))
        cells.append(cell(draw(st.integers(1, 8)) / 8, *place, kind=draw(st.integers(0, 1))))
    return sorted(cells)


@PROPERTY
@hypothesis.given(boxes(), st.sampled_from((0.25, 0.5, 0.75, 1.0)))
def test_nothing_is_made_up_and_the_surest_detection_stays_as_sure(cells, share):
    found = prefer_inner(cells, share)
    assert found == sorted(found)
    left = [one[1:] for one in cells]
    for one in found:
        left.remove(one[1:])  # each box at most as often as before
    for kind in (0, 1):
        before = [-one[0] for one in cells if one[1] == kind]
        after = [-one[0] for one in found if one[1] == kind]
        assert max(before, default=0.0) == max(after, default=0.0)
        # Confidences are handed on, never made: each is at most that of the same rank before.
        assert all(np.array(sorted(before)[-len(after) :] if after else []) >= sorted(after))


@PROPERTY
@hypothesis.given(boxes(), st.sampled_from((0.25, 0.5, 0.75, 1.0)))
def test_what_is_left_contains_nothing_as_sure(cells, share):
    found = prefer_inner(cells, share)
    assert prefer_inner(found, share) == found


@PROPERTY
@hypothesis.given(boxes(), boxes())
def test_boxes_far_away_change_nothing(cells, others):
    away = [one[:2] + tuple(edge + 100.0 for edge in one[2:]) for one in others]
    together = prefer_inner(sorted(cells + away), SHARE)
    assert together == sorted(prefer_inner(cells, SHARE) + prefer_inner(away, SHARE))
