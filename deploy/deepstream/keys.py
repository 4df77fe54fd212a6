"""Which keys each release accepts: keys.json, which names its sources, as Python sets.

keys.json holds the keys of DeepStream 5.0 and, for the releases whose parsers were read, what was
added and removed since the one before. A release between two that were read is held to what both
accept; one after the last to what the last accepts.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from deploy.deepstream.versions import VersionNumber, parse_number

KEYS_PATH = Path(__file__).with_name("keys.json")
KeyTable = Dict[str, Set[str]]

# What to write instead of a key that a later release refuses.
REPLACEMENTS = {
    ("sink", "display-id"): "remove it (nvdrmvideosink, type=5: conn-id, plane-id)",
    ("sink", "overlay-id"): "remove it (nvdrmvideosink, type=5: plane-id)",
    ("sink", "offset-x"): "remove it",
    ("sink", "offset-y"): "remove it",
    ("tracker", "enable-batch-process"): "remove it: batches are always used",
    ("tracker", "enable-past-frame"): "remove it: the tracker's own file says it",
    ("streammux", "config-file"): "config-file-path",
}


class Knowledge(NamedTuple):
    """The keys of one release by group, and the releases whose parsers say so."""

    keys: KeyTable
    read_from: Tuple[str, ...]


def load_document() -> Dict[str, Any]:
    """Return keys.json."""
    return json.loads(KEYS_PATH.read_text(encoding="utf-8"))


def known_keys(number: VersionNumber) -> Knowledge:
    """Return the keys that a release accepts."""
    tables = _tables(load_document())
    earlier = [table for table in tables if parse_number(table[0]) <= number]
    later = [table for table in tables if parse_number(table[0]) > number]
    name, before = earlier[-1]
    if parse_number(name) == number or not later:
        return Knowledge(before, (name,))
    after_name, after = later[0]
    both = {group: before[group] & after[group] for group in before if group in after}
    return Knowledge(both, (name, after_name))


def key_history(group: str, key: str) -> Tuple[Optional[str], Optional[str]]:
    """Return the releases read that first have a key, and first lack it again; None for never."""
    first = last = None
    for version, table in _tables(load_document()):
        present = key in table.get(group, set())
        if present and first is None:
            first = version
        if not present and first is not None and last is None:
            last = version
    return first, last


def _tables(document: Dict[str, Any]) -> List[Tuple[str, KeyTable]]:
    current = {group: set(keys) for group, keys in document["first"]["keys"].items()}
    tables = [(document["first"]["version"], current)]
    for step in document["steps"]:
        current = {group: set(keys) for group, keys in current.items()}
        for group, keys in step["added"].items():
            current.setdefault(group, set()).update(keys)
        for group, keys in step["removed"].items():
            current[group] -= set(keys)
        tables.append((step["version"], current))
    return tables
