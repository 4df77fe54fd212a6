"""Atomic outputs and content hashes.

An output may be a link into the DVC cache, so nothing here ever writes into an existing file:
everything is written aside and renamed into place.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic(path: Path, *, is_file: bool = False) -> Iterator[Path]:
    """Yield a place beside `path` to write to, and rename it to `path` when the block ends well.

    A folder is created empty before it is yielded; a file is not created. On an error the
    half-written output is removed and an earlier `path` stays whole. A folder that stood at `path`
    is replaced as a whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    remove(aside)
    if not is_file:
        aside.mkdir()
    try:
        yield aside
        replace(aside, path)
    except BaseException:
        remove(aside)
        raise


def replace(source: Path, target: Path) -> None:
    """Move `source` to `target`, which it replaces, whether file or folder."""
    if target.is_dir() and not target.is_symlink():
        old = target.with_name(f".{target.name}.old")
        remove(old)
        os.replace(target, old)
        os.replace(source, target)
        remove(old)
    else:
        os.replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, link or folder; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write sorted, indented JSON that is equal for equal content, atomically."""
    with atomic(path, is_file=True) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def rounded(values: Mapping[str, object], *, digits: int = 6) -> dict[str, object]:
    """Return a copy with every float, nested ones included, rounded to `digits` decimals."""

    def visit(value: object) -> object:
        if isinstance(value, Mapping):
            return {key: visit(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [visit(item) for item in value]
        return round(value, digits) if isinstance(value, float) else value

    return {key: visit(value) for key, value in values.items()}


def hash_paths(paths: Iterable[Path]) -> str:
    """Hash the names and contents of files and of all files below folders; order does not matter.

    A path that does not exist counts as empty. Names are relative to each given path, so that the
    same tree elsewhere has the same hash.
    """
    total = hashlib.sha256()
    for path in sorted(paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            total.update(f"{path.name}/{file.relative_to(path).as_posix()}\0".encode())
            total.update(hash_file(file).encode() if file.is_file() else b"")
    return total.hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
