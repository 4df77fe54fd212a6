"""Stage `convert`: polygons or KITTI labels in data/raw -> checked KITTI labels in data/kitti.

Run: dvc repro convert, or python -m stages.convert --out DIR (a second for 4,800 frames). Images
are hard-linked; what was clipped or dropped is counted in results/convert.json.
"""

import sys
from pathlib import Path

from stages._stage import Stage, Summary, main
from stages.datasets.config import DatasetConfig
from stages.datasets.convert import convert_dataset

RAW = Path("data/raw")
KITTI = Path("data/kitti")


def run(stage: Stage) -> Summary:
    """Convert all frames and report the counts."""
    config = stage.section(DatasetConfig)
    with stage.writing(KITTI) as folder:
        report = convert_dataset(config, stage.dep(RAW), folder)
    stage.write_metrics(report.as_metrics())
    shown = {name: number for name, number in report.total.items() if number}
    return Summary(shown, stage.out(KITTI))


if __name__ == "__main__":
    sys.exit(main("convert", run))
