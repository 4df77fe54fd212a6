"""Stage `download`: draw the data set, or bring it from the network, a folder or a zip.

Run: dvc repro download, or python -m stages.download --out DIR (drawing takes about 30 s on 2 CPU
cores; EgoHands is 1.3 GB). A download that was cut goes on where it stopped, from
.work/downloads.
"""

import os
import sys
from pathlib import Path

from stages._stage import Stage, Summary, main
from stages.datasets.config import DatasetConfig
from stages.datasets.raw import fill_raw

RAW = Path("data/raw")
DOWNLOADS = Path(".work/downloads")


def run(stage: Stage) -> Summary:
    """Fill data/raw and count what is there."""
    config = stage.section(DatasetConfig)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with stage.writing(RAW) as folder:
        counts = fill_raw(config, folder, root=Path.cwd(), downloads=DOWNLOADS, workers=workers)
    shown = {name.replace("_", " "): number for name, number in counts._asdict().items() if number}
    return Summary({"data set": config.kind, **shown}, stage.out(RAW))


if __name__ == "__main__":
    sys.exit(main("download", run))
