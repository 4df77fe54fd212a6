"""Fill data/raw: draw it, or bring it from a download, a local folder or a zip.

Layout: `_LABELLED_SAMPLES/<VIDEO>/` (rendered, egohands) or `images/` and `labels/` (kitti), and
for each folder of dataset.extra_train `extra_train/<k>/{images,labels}/`; with dataset.drawn also
`drawn/_LABELLED_SAMPLES/<VIDEO>/`.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from stages.datasets.config import DatasetConfig
from stages.datasets.errors import DatasetError
from stages.datasets.headers import IMAGE_SUFFIXES, JPEG_SUFFIXES
from stages.datasets.trees import Tree, open_tree, place_files

LOGGER = logging.getLogger(__name__)
SAMPLES = "_LABELLED_SAMPLES"
EXTRA_TRAIN = "extra_train"
DRAWN = "drawn"
VIDEO_FILES = ("polygons.mat", "gestures.json")
ZIP_START = b"PK\x03\x04"

Pairs = Iterator[tuple[PurePosixPath, Path]]


class RawCounts(NamedTuple):
    """What was brought: videos (0 for kitti), images, and images of extra_train and drawn."""

    videos: int
    images: int
    extra_images: int


def fill_raw(
    config: DatasetConfig, folder: Path, *, root: Path, downloads: Path, workers: int
) -> RawCounts:
    """Fill the empty `folder` as `config` says.

    root: what relative paths of the configuration are relative to. downloads: where archives
    are kept, and parts of them until they are complete. workers: processes that
    draw. Raises DatasetError for whatever of this a person can mend.
    """
    if config.kind == "rendered" or config.drawn:
        from stages.datasets.render.dataset import render_dataset

        place = folder / DRAWN if config.drawn else folder
        render_dataset(config.render, place, workers=workers)
    if config.kind != "rendered":
        _fill_from_source(config, folder, root=root, downloads=downloads)
    for number, extra in enumerate(config.extra_train):
        with open_tree(local_path(extra, root)) as tree:
            place_kitti(tree, folder / EXTRA_TRAIN / str(number))
    return _count(folder)


def local_path(text: str, root: Path) -> Path:
    """Return an absolute path as it is, any other below `root`.

    DVC runs queued experiments in a copy below .dvc/tmp/exps without untracked files; there, a
    path that the copy lacks is looked up in the repository itself.
    """
    path = root / Path(text).expanduser()
    marker = "/.dvc/tmp/exps/"
    absolute = str(root.resolve())
    if not path.exists() and marker in absolute:
        return Path(absolute.split(marker)[0]) / text
    return path


def place_samples(tree: Tree, folder: Path) -> None:
    """Bring the videos of an EgoHands tree to `folder`/_LABELLED_SAMPLES.

    The videos stand below a folder _LABELLED_SAMPLES at any depth. Frames, polygons and gestures
    are brought, other files are left. Raises DatasetError when no or several such folders are
    there.
    """
    roots = sorted({root for file in tree.files for root in _samples_roots(file)})
    if tree.source.name == SAMPLES:
        roots = roots or [PurePosixPath()]
    if len(roots) != 1:
        found = ", ".join(map(str, roots[:3])) or f"{len(tree.files)} other files"
        raise DatasetError(
            f"{tree.source} holds {len(roots)} folders {SAMPLES} ({found}), expected one, with a "
            "folder per video; correct dataset.path"
        )
    wanted = _wanted_samples(tree, roots[0], folder / SAMPLES)
    if not place_files(tree, wanted, description="frames"):
        raise DatasetError(
            f"{tree.source}: {SAMPLES} holds no <VIDEO>/frame_NNNN.jpg; correct dataset.path"
        )


def place_kitti(tree: Tree, folder: Path) -> None:
    """Bring images/ and labels/ of a KITTI tree, which stand beside each other at any depth.

    Raises DatasetError when no or several such pairs are there, or no image is.
    """
    parents = {
        name: {file.parent.parent for file in tree.files if file.parent.name == name}
        for name in ("images", "labels")
    }
    roots = sorted(parents["images"] & parents["labels"])
    if len(roots) != 1:
        raise DatasetError(
            f"{tree.source} holds {len(roots)} pairs of images/ and labels/, expected one; "
            "correct dataset.path or dataset.extra_train"
        )
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    place_files(tree, _wanted_kitti(tree, roots[0], folder), description="images and labels")


def _fill_from_source(config: DatasetConfig, folder: Path, *, root: Path, downloads: Path) -> None:
    given = config.path is not None
    source = local_path(str(config.path), root) if given else _download(config, downloads)
    with open_tree(source) as tree:
        if config.kind == "egohands":
            place_samples(tree, folder)
        else:
            place_kitti(tree, folder)


def _download(config: DatasetConfig, downloads: Path) -> Path:
    """Return the downloaded archive. It is kept: a new extra_train should not bring it again."""
    from stages.datasets.fetch import fetch  # requests is for this alone

    if not config.urls:
        raise DatasetError(
            "dataset.path is null and dataset.urls is empty for dataset.kind="
            f"{config.kind}, expected one of them; set dataset.path to your folder or zip"
        )
    first = config.urls[0]
    name = unquote(PurePosixPath(urlsplit(first).path).name) or "dataset.zip"
    target = downloads / f"{hashlib.sha256(first.encode()).hexdigest()[:8]}-{name}"
    digest = fetch(config.urls, target, sha256=config.sha256, expected_start=ZIP_START)
    verdict = "as expected" if config.sha256 else "not checked: dataset.sha256 is null"
    LOGGER.info("%s: SHA-256 %s (%s); kept, remove it when you like", target, digest, verdict)
    return target


def _samples_roots(file: PurePosixPath) -> list[PurePosixPath]:
    """Return the innermost folder _LABELLED_SAMPLES above a file, if any (not macOS's shadow)."""
    folders = file.parts[:-1]
    if SAMPLES not in folders or "__MACOSX" in folders:
        return []
    end = len(folders) - folders[::-1].index(SAMPLES)
    return [PurePosixPath(*folders[:end])]


def _wanted_samples(tree: Tree, root: PurePosixPath, folder: Path) -> Pairs:
    for file in tree.files:
        if len(file.parts) < 2 or file.parent.parent != root:
            continue
        known = file.name in VIDEO_FILES or file.suffix.lower() in JPEG_SUFFIXES
        if known and not file.name.startswith("."):
            yield file, folder / file.parent.name / file.name


def _wanted_kitti(tree: Tree, root: PurePosixPath, folder: Path) -> Pairs:
    suffixes = {root / "images": IMAGE_SUFFIXES, root / "labels": (".txt",)}
    for file in tree.files:
        known = file.suffix.lower() in suffixes.get(file.parent, ())
        if known and not file.name.startswith("."):
            yield file, folder / file.parent.name / file.name


def _count(folder: Path) -> RawCounts:
    images = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    added = (folder / EXTRA_TRAIN, folder / DRAWN)
    extra = sum(any(map(path.is_relative_to, added)) for path in images)
    videos = [path for path in (folder / SAMPLES).glob("*") if path.is_dir()]
    return RawCounts(len(videos), len(images) - extra, extra)
