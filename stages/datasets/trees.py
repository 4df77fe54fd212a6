"""Files of a local data set: below a folder or in a zip archive, seen the same way.

Files of a folder are hard-linked (copied where the file system has no links), never changed.
"""

import contextlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from stages.datasets.errors import DatasetError

NEW_COPY = "put a whole copy there, or remove it to download it again"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class Tree(NamedTuple):
    """The relative paths of all files, sorted, and the way to bring one to a new place."""

    source: Path
    files: list[PurePosixPath]
    place: Callable[[PurePosixPath, Path], None]


@contextlib.contextmanager
def open_tree(source: Path) -> Iterator[Tree]:
    """Open a folder or a zip archive.

    Raises DatasetError when it is neither, is cut short, or holds a path that leads outside.
    """
    if source.is_dir():
        yield Tree(source, _files_below(source), lambda file, to: link_or_copy(source / file, to))
    elif source.is_file():
        with _open_zip(source) as archive:
            members = _zip_members(archive, source)
            yield Tree(
                source, sorted(members), lambda file, to: _extract(archive, members[file], to)
            )
    else:
        raise DatasetError(
            f"{source} is not there, expected a folder or a zip; correct dataset.path "
            "or dataset.extra_train"
        )


def place_files(
    tree: Tree, wanted: Iterable[tuple[PurePosixPath, Path]], *, description: str
) -> int:
    """Bring files of `tree` to their new places, whose folders are made; return how many."""
    pairs = list(wanted)
    for folder in {target.parent for _, target in pairs}:
        folder.mkdir(parents=True, exist_ok=True)
    for file, target in tqdm(pairs, desc=description, unit="file", disable=None):
        tree.place(file, target)
    return len(pairs)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Hard-link `target` to `source`, or copy it where that fails; links in `source` are followed.

    Raises DatasetError when `source` cannot be read.
    """
    try:
        if os.path.islink(source):
            source = os.path.realpath(source)
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise DatasetError(
                f"{source} cannot be read ({error.strerror}); check that it is there and readable"
            ) from error


def _files_below(folder: Path) -> list[PurePosixPath]:
    found = []
    for base, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        relative = PurePosixPath(Path(base).relative_to(folder).as_posix())
        found += [relative / name for name in names]
    return sorted(found)


@contextlib.contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DatasetError(
            f"{path} ({path.stat().st_size} bytes) is cut short or no zip archive: {error}; "
            f"{NEW_COPY}"
        ) from error
    with archive:
        yield archive


def _zip_members(archive: zipfile.ZipFile, source: Path) -> dict[PurePosixPath, zipfile.ZipInfo]:
    members = {}
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or ".." in re.split(r"[\\/]", name) or name[1:2] == ":":
            raise DatasetError(
                f"{source} holds {name!r}, which leads outside of it; do not use this archive"
            )
        if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            members[PurePosixPath(name)] = info
    return members


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    try:
        with archive.open(info) as packed, target.open("xb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)
    except ZIP_ERRORS as error:
        raise DatasetError(
            f"{archive.filename}: {info.filename} is damaged: {error}; {NEW_COPY}"
        ) from error
