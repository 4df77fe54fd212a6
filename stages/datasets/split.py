"""Share the videos out to train, val and test, and prove that nothing is on two sides.

The unit is the video, never the frame: neighbouring frames of one video are almost copies.
"""

import fnmatch
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.datasets.config import SplitConfig
from stages.datasets.errors import DatasetError
from stages.datasets.index import IndexRow

SIDES = ("train", "val", "test")
WILDCARDS = frozenset("*?[")
MIN_VIDEOS_TO_DRAW = 3


class SideCounts(NamedTuple):
    """How much one side of the split holds."""

    images: int
    boxes: int
    videos: int


def split_videos(videos: Sequence[str], config: SplitConfig) -> dict[str, str]:
    """Return the side (train, val or test) of each video.

    Names and patterns of config.val and config.test come first. A side without an entry is drawn;
    both are when every entry is a pattern and none matches (SplitConfig). Raises DatasetError for
    an entry that matches nothing, a video that both sides claim, too few videos to draw from, and
    an empty val or test.
    """
    val, test = (_match(videos, entries) for entries in (config.val, config.test))
    only_patterns = all(WILDCARDS & set(entry) for entry in (*config.val, *config.test))
    if not (only_patterns and not val and not test):
        _check_entries(videos, config)
    both = sorted(val & test)
    if both:
        raise DatasetError(
            f"video {both[0]} is on both sides by split.val {config.val} and split.test "
            f"{config.test}; take it out of one"
        )
    if not val or not test:
        drawn_val, drawn_test = _draw(videos, val | test, config)
        val, test = val or drawn_val, test or drawn_test
    sides = {**dict.fromkeys(videos, "train"), **dict.fromkeys(val, "val")}
    return {**sides, **dict.fromkeys(test, "test")}


def split_rows(rows: Sequence[IndexRow], config: SplitConfig) -> dict[str, list[IndexRow]]:
    """Return the frames of train, val and test; frames with train_only are always for training.

    Raises DatasetError as split_videos does, and when no frame is left for training.
    """
    own = sorted({row.video for row in rows if not row.train_only})
    sides = split_videos(own, config)
    result: dict[str, list[IndexRow]] = {side: [] for side in SIDES}
    for row in rows:
        result["train" if row.train_only else sides[row.video]].append(row)
    if not result["train"]:
        raise DatasetError(
            f"no video is left for training: split.val {config.val} and split.test {config.test} "
            f"take all {len(own)}; shorten one"
        )
    return result


def list_stems(side: str, rows: Sequence[IndexRow], config: SplitConfig) -> list[str]:
    """Return the stems of a side's list; the dataset's own training frames repeat_own times."""
    if side != "train":
        return [row.stem for row in rows]
    times = [1 if row.train_only else config.repeat_own for row in rows]
    return [row.stem for row, count in zip(rows, times, strict=True) for _ in range(count)]


def check_leaks(split: Mapping[str, Sequence[IndexRow]], images: Path) -> None:
    """Raise DatasetError when a video, or the same picture byte for byte, is on two sides."""
    side_of: dict[str, str] = {}
    for side, rows in split.items():
        for video in {row.video for row in rows}:
            if side_of.setdefault(video, side) != side:
                raise DatasetError(
                    f"video {video} is in {side_of[video]} and in {side}; the split is wrong, "
                    "report it"
                )
    files = {os.path.splitext(name)[0]: name for name in os.listdir(images)}
    place = {row.stem: (side, images / files[row.stem]) for side in split for row in split[side]}
    _check_copies(place)


def count_side(rows: Sequence[IndexRow], labels: Path) -> SideCounts:
    """Count images, boxes (lines of the label files) and videos."""
    boxes = sum((labels / f"{row.stem}.txt").read_bytes().count(b"\n") for row in rows)
    return SideCounts(len(rows), boxes, len({row.video for row in rows}))


def _match(videos: Sequence[str], entries: Sequence[str]) -> set[str]:
    return {video for video in videos if any(_fits(video, entry) for entry in entries)}


def _fits(video: str, entry: str) -> bool:
    return video == entry or fnmatch.fnmatchcase(video, entry)


def _check_entries(videos: Sequence[str], config: SplitConfig) -> None:
    for side in ("val", "test"):
        for entry in getattr(config, side):
            if not any(_fits(video, entry) for video in videos):
                raise DatasetError(
                    f"split.{side} has {entry!r}, which matches none of the {len(videos)} videos "
                    f"({_some(videos)}); correct it, or set split.{side}=[] to draw "
                    f"split.{side}_frac of them"
                )


def _draw(
    videos: Sequence[str], taken: set[str], config: SplitConfig
) -> tuple[set[str], set[str]]:
    """Draw (val, test) from the videos that are not `taken`.

    The order depends on the seed and each video's own name; test comes from its front and val
    from its back, so that a new video pushes at most one other out of each side, and none from
    one side to the other.
    """
    free = sorted(set(videos) - taken, key=lambda video: _order(video, config.seed))
    needed = MIN_VIDEOS_TO_DRAW - bool(taken)
    if len(free) < needed:
        raise DatasetError(
            f"{len(free)} videos ({_some(videos)}) cannot be shared out to train, val and test, "
            f"expected at least {needed}; set dataset.video_pattern so that stems fall into more "
            "videos, add videos, or name them in split.val and split.test"
        )
    most = len(free) - 1 if taken else (len(free) - 1) // 2
    num_val, num_test = (
        min(max(1, round(frac * len(videos))), most)
        for frac in (config.val_frac, config.test_frac)
    )
    return set(free[len(free) - num_val :]), set(free[:num_test])


def _order(video: str, seed: int) -> tuple[str, str]:
    return hashlib.sha256(f"{seed}:{video}".encode()).hexdigest(), video


def _some(videos: Sequence[str]) -> str:
    names = sorted(videos)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _check_copies(place: Mapping[str, tuple[str, Path]]) -> None:
    """Compare contents, of files with equal length alone, which few have."""
    by_length: dict[int, list[str]] = {}
    for stem, (_, path) in place.items():
        by_length.setdefault(path.stat().st_size, []).append(stem)
    for stems in by_length.values():
        if len({place[stem][0] for stem in stems}) < 2:
            continue
        first: dict[bytes, str] = {}
        for stem in stems:
            digest = hashlib.sha256(place[stem][1].read_bytes()).digest()
            other = first.setdefault(digest, stem)
            if place[other][0] != place[stem][0]:
                raise DatasetError(
                    f"{stem} ({place[stem][0]}) and {other} ({place[other][0]}) are the same "
                    "picture; remove one, or bring their videos to one side with split.val and "
                    "split.test"
                )
