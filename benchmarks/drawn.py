"""Drawn hands as a KITTI folder, without the pipeline."""

import tempfile
from pathlib import Path

from deploy.machine import available_cpus
from stages.datasets.config import DatasetConfig
from stages.datasets.convert import convert_dataset
from stages.datasets.render.config import RenderConfig
from stages.datasets.render.dataset import render_dataset

VAL_VIDEOS = 6


def draw_kitti(folder: Path, *, train_videos: int, table_work_frac: float = 0.0) -> None:
    """Fill an empty folder with images/ and labels/ of training and validation videos.

    They are those that the pipeline draws by default, the first of them, unless table_work_frac
    is changed.
    """
    config = RenderConfig(
        train_videos=train_videos,
        val_videos=VAL_VIDEOS,
        test_videos=0,
        table_work_frac=table_work_frac,
    )
    with tempfile.TemporaryDirectory() as raw:
        render_dataset(config, Path(raw), workers=available_cpus())
        convert_dataset(DatasetConfig(kind="rendered", render=config), Path(raw), folder)


def list_stems(folder: Path, side: str) -> list[str]:
    """List the frames of a side, "train" or "val", by the names that drawn videos have."""
    frames = (folder / "images").iterdir()
    return sorted(path.stem for path in frames if path.name.startswith(f"{side.upper()}_"))
