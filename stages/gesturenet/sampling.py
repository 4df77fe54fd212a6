"""Which crops an epoch takes: every class equally often, whatever there is of it."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

DRAWN = ""  # source_names' name for crops of the dataset or of gesture.drawn


def balanced_order(class_id: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return indices of crops (M,), shuffled, with every present class equally often.

    M is the number of crops, rounded up to a multiple of the number of classes. Crops of rare
    classes come several times, none twice more often than another of its class.
    """
    classes = np.unique(class_id)
    share = math.ceil(len(class_id) / len(classes))
    parts = [_repeat(np.flatnonzero(class_id == one), share, generator) for one in classes]
    return generator.permutation(np.concatenate(parts))


def mixed_order(
    class_id: np.ndarray,
    sources: Sequence[str],
    generator: np.random.Generator,
    *,
    drawn_share: float,
    class_weights: Mapping[int, float] = MappingProxyType({}),
) -> np.ndarray:
    """Return indices as balanced_order does, with drawn_share of each class's crops drawn ones.

    class_weights: how much more often than others a class comes, by its index; 1 for those it
    lacks.

    sources: of each crop, DRAWN for drawn ones. The other sources of a class share the rest by the
    square root of how many crops they have, so that none decides what the class looks like. A
    class that has only one of the two kinds takes all from it.
    """
    classes = np.unique(class_id)
    weight_of = {one: class_weights.get(int(one), 1.0) for one in classes}
    unit = len(class_id) / sum(weight_of.values())
    names = np.array(sources)
    parts = []
    for one in classes:
        share = math.ceil(unit * weight_of[one])
        groups = _group(np.flatnonzero(class_id == one), names)
        weights = _weights({name: len(members) for name, members in groups.items()}, drawn_share)
        counts = _apportion([weights[name] for name in groups], share)
        for members, num in zip(groups.values(), counts, strict=True):
            parts.append(_repeat(members, num, generator))
    return generator.permutation(np.concatenate(parts))


def source_names(names: Sequence[str]) -> list[str]:
    """Return the source of each crop by its name: "<source>/..." for crops of one's own."""
    return [name.partition("/")[0] if "/" in name else DRAWN for name in names]


def _group(members: np.ndarray, names: np.ndarray) -> dict[str, np.ndarray]:
    own = names[members]
    return {str(name): members[own == name] for name in np.unique(own)}


def _weights(counts: dict[str, int], drawn_share: float) -> dict[str, float]:
    """Return the weight of each source, by name; they add up to 1."""
    roots = {name: math.sqrt(count) for name, count in counts.items()}
    real = sum(root for name, root in roots.items() if name != DRAWN)
    if DRAWN not in counts or not real:
        total = sum(roots.values())
        return {name: root / total for name, root in roots.items()}
    return {
        name: drawn_share if name == DRAWN else (1 - drawn_share) * root / real
        for name, root in roots.items()
    }


def _apportion(weights: Sequence[float], num: int) -> list[int]:
    """Split num by weights that add up to 1, exactly: rounded running sums."""
    edges = np.round(np.cumsum([0.0, *weights]) * num).astype(int)
    return np.diff(edges).tolist()


def _repeat(members: np.ndarray, num: int, generator: np.random.Generator) -> np.ndarray:
    """Take num of the members in whole random rounds, the last one cut short."""
    rounds = [generator.permutation(members) for _round in range(math.ceil(num / len(members)))]
    return np.concatenate([np.zeros(0, np.int64), *rounds])[:num]
