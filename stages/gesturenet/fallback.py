"""Training crops for a dataset without gesture labels: frames that are drawn for the purpose.

EgoHands labels hands but no gestures. So that such a dataset gets a working classifier too, the
stage draws the rendered dataset into its work folder and trains on that, exactly as it would with
dataset=rendered.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from stages.datasets.config import DatasetConfig, SplitConfig
from stages.datasets.convert import convert_dataset
from stages.datasets.index import read_index
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import render_dataset
from stages.datasets.split import SIDES, split_rows


class LabelledFrames(NamedTuple):
    """A converted dataset and which of its frames are on each side (train, val, test)."""

    kitti_dir: Path
    stems: dict[str, list[str]]


def draw_frames(config: RenderConfig, folder: Path) -> LabelledFrames:
    """Draw and convert frames below `folder`; what a killed run finished there is kept."""
    kitti_dir = folder / "kitti"
    if not kitti_dir.exists():
        _draw(config, folder, kitti_dir)
    rows = split_rows(read_index(kitti_dir / "index.csv"), SplitConfig())
    return LabelledFrames(kitti_dir, {side: [row.stem for row in rows[side]] for side in SIDES})


def _draw(config: RenderConfig, folder: Path, kitti_dir: Path) -> None:
    raw, aside = folder / "raw", folder / "kitti.tmp"
    for left in (raw, aside):
        shutil.rmtree(left, ignore_errors=True)
    raw.mkdir(parents=True)
    aside.mkdir()
    render_dataset(config, raw, workers=os.cpu_count() or 1)
    convert_dataset(DatasetConfig(kind="rendered", render=config), raw, aside)
    os.replace(aside, kitti_dir)
