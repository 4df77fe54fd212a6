"""Boxes in boxes: where one contains a much smaller one, the smaller is the hand.

A bare forearm with its hand is easily taken for one big hand, more surely than the hand itself.
Such a box contains the hand's, is more than twice as large, and so overlaps it too little for
suppression.
"""

from typing import List, Sequence, Tuple

# Of the inner box, what must lie in the outer one: a wrist's edge may reach over it.
INSIDE_FRAC = 0.9
# The inner box's area at most, as a fraction of the outer one's: the boxes of two hands that
# cover each other are more alike.
LARGEST_FRAC = 0.45

# Minus confidence, class, left, top, right, bottom: sorted, the strongest comes first.
Cell = Tuple[float, int, float, float, float, float]


def prefer_inner(cells: Sequence[Cell], inner_confidence: float) -> List[Cell]:
    """Let outer boxes give way to inner ones; return what is left, sorted.

    cells: sorted. From the largest box to the smallest, a box that contains INSIDE_FRAC of one of
    its class of at most LARGEST_FRAC of its area, whose confidence is at least inner_confidence
    (0 to 1, above 0) of its own, is dropped. The strongest such inner box takes over its
    confidence if that is larger: there is a hand, only its outline was wrong.
    """
    areas = [_area(cell) for cell in cells]
    confidences = [-cell[0] for cell in cells]
    kept = []
    for outer in sorted(range(len(cells)), key=lambda index: -areas[index]):
        least = inner_confidence * confidences[outer]
        for inner, cell in enumerate(cells):
            # Sorted: the first one is the strongest, and behind a weak one are only weaker ones.
            if -cell[0] < least:
                kept.append(outer)
                break
            if areas[inner] <= LARGEST_FRAC * areas[outer] and _contains(
                cells[outer], cell, areas[inner]
            ):
                confidences[inner] = max(confidences[inner], confidences[outer])
                break
        else:
            kept.append(outer)
    return sorted((-confidences[index],) + cells[index][1:] for index in kept)


def _area(cell: Cell) -> float:
    return (cell[4] - cell[2]) * (cell[5] - cell[3])


def _contains(outer: Cell, inner: Cell, inner_area: float) -> bool:
    """Whether INSIDE_FRAC of a box, which is not empty, lies in another one of its class."""
    if inner[1] != outer[1] or inner[2] >= outer[4] or inner[4] <= outer[2]:
        return False
    width = min(inner[4], outer[4]) - max(inner[2], outer[2])
    height = min(inner[5], outer[5]) - max(inner[3], outer[3])
    return height > 0.0 and width * height >= INSIDE_FRAC * inner_area > 0.0
