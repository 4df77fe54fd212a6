"""Typed configuration of the data stages: the sections `dataset` and `split`."""

import re
from dataclasses import dataclass, field

from stages.datasets.render.config import RenderConfig

KINDS = ("rendered", "egohands", "kitti")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class DatasetConfig:
    """Where the frames and labels come from.

    kind: rendered (drawn by `render`), egohands (polygons.mat) or kitti (images/ and labels/).
    urls: zip archives with the same content, tried in order. sha256: of that zip, in hexadecimal;
    null = not checked, but logged. path: a local folder or zip, used instead of urls.
    extra_train: KITTI folders used for training only, with any kind. Local paths are absolute or
    relative to the repository root.
    drawn: with egohands and kitti, draw the videos of `render` as well. Their training videos
    (TRAIN_*) are for training only; VAL_* and TEST_* are videos like any other.
    hand_types: KITTI types that count as a hand, `*` and `?` are wildcards, case does not
    matter; others are left out.
    video_pattern: regular expression whose first group is the video of a KITTI stem; frames of one
    video never stand on two sides of the split.
    """

    kind: str = "rendered"
    urls: list[str] = field(default_factory=list)
    sha256: str | None = None
    path: str | None = None
    extra_train: list[str] = field(default_factory=list)
    drawn: bool = False
    hand_types: list[str] = field(default_factory=lambda: ["hand"])
    video_pattern: str = r"^(.+)_[A-Za-z]*[0-9]+$"
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"dataset.kind is {self.kind!r}, known: {', '.join(KINDS)}")
        if self.drawn and self.kind == "rendered":
            raise ValueError(
                "dataset.drawn is true, but dataset.kind=rendered draws anyway; leave it false"
            )
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError(
                f"dataset.sha256 is {self.sha256!r}, expected 64 lower-case hexadecimal digits "
                "or null"
            )
        if not self.hand_types:
            raise ValueError("dataset.hand_types is empty, expected KITTI types such as [hand]")
        _check_pattern(self.video_pattern)


@dataclass(frozen=True)
class SplitConfig:
    """Which videos are for validation and for test; all others are for training.

    val, test: names of videos or patterns with `*`, `?` or `[...]`. A side whose list is empty is
    drawn: val_frac or test_frac of all videos, at least one, by an order that depends on seed
    and on the video's name alone. When every entry is a pattern and none matches any video, both
    sides are drawn.
    repeat_own: how often each training frame of the dataset itself stands in the list; frames of
    dataset.extra_train and drawn ones stand there once.
    """

    val: list[str] = field(default_factory=lambda: ["VAL_*"])
    test: list[str] = field(default_factory=lambda: ["TEST_*"])
    val_frac: float = 0.1
    test_frac: float = 0.1
    seed: int = 0
    repeat_own: int = 1

    def __post_init__(self) -> None:
        if self.repeat_own < 1:
            raise ValueError(f"split.repeat_own is {self.repeat_own}, expected 1 or more")
        for name in ("val_frac", "test_frac"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"split.{name} is {value}, expected 0.0 to below 1.0")
        if self.val_frac + self.test_frac >= 1.0:
            raise ValueError(
                f"split.val_frac + split.test_frac is {self.val_frac + self.test_frac:g}, "
                "expected below 1.0 so that videos are left for training"
            )


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(
            f"dataset.video_pattern {pattern!r} is no regular expression: {error}"
        ) from error
    if groups < 1:
        raise ValueError(
            f"dataset.video_pattern {pattern!r} has no group, expected the video in parentheses"
        )
