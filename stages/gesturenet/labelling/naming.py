"""Names of sources, frames, crops and classes. Crops are named `<source>_<frame>-<n>.jpg`.

`_` stands after the source alone: the trainer (stages.gesturenet.crop_folders) splits by what
stands before it, so that pictures of one source are never on both sides.
"""

import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from stages.gesturenet.errors import GestureError

# What a person says of a crop that belongs to no class; never the name of one.
DISCARD = "discard"
# Classes are chosen with the keys 1 to 9.
MAX_CLASSES = 9


def source_key(uri: str, *, taken: Container[str]) -> str:
    """Return the name of a video or folder in the names of its crops: its own, with - for others.

    taken: the names of other sources; the second `clip` is `clip-2`.
    """
    return _unique(_plain(Path(uri).stem if Path(uri).is_file() else Path(uri).name), taken)


def image_keys(stems: Iterable[str]) -> list[str]:
    """Return a name for each image of a folder, made of its stem, all different.

    A name stays the same when other images come and go, unless two stems differ in signs alone.
    """
    found: dict[str, None] = {}
    for stem in stems:
        found[_unique(_plain(stem), found)] = None
    return list(found)


def video_key(number: int) -> str:
    """Return the name of a video's frame, counted from 0: six digits, or more where it needs."""
    return f"{number:06d}"


def crop_name(source: str, frame: str, index: int) -> str:
    """Return the file name of a frame's hand; index counts from 0, the most confident first."""
    return f"{source}_{frame}-{index}.jpg"


def check_classes(classes: Sequence[str], *, origin: str) -> tuple[str, ...]:
    """Return classes that can be folders and keys; origin says where they come from.

    Raises: GestureError for names that differ in nothing or are no folder names, or too many.
    """
    wrong = [name for name in classes if not re.fullmatch(r"\w[\w-]*", name) or name == DISCARD]
    if wrong or len(set(classes)) != len(classes) or not 1 < len(classes) <= MAX_CLASSES:
        raise GestureError(
            f"{origin}: the classes are {', '.join(classes) or 'none'}; expected 2 to "
            f"{MAX_CLASSES} different names of letters, digits, _ and -, none of them {DISCARD}"
        )
    return tuple(classes)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "source"


def _unique(name: str, taken: Container[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"
