"""Stage `split`: the videos of data/kitti -> data/split/{train,val,test}.txt, without a leak.

frames.sha256 beside them stands for every picture and label: stages that read data/kitti declare
data/split, and DVC looks at one file instead of thousands for each of them.

Run: dvc repro split, or python -m stages.split --out DIR (seconds). Counts are in
results/split.json.
"""

import sys
from pathlib import Path

from stages._files import hash_paths
from stages._stage import Stage, Summary, main
from stages.datasets.config import SplitConfig
from stages.datasets.index import read_index, write_stems
from stages.datasets.split import check_leaks, count_side, list_stems, split_rows

KITTI = Path("data/kitti")
SPLIT = Path("data/split")


def run(stage: Stage) -> Summary:
    """Share out the videos, check for leaks, and count each side."""
    kitti = stage.dep(KITTI)
    config = stage.section(SplitConfig)
    split = split_rows(read_index(kitti / "index.csv"), config)
    check_leaks(split, kitti / "images")
    with stage.writing(SPLIT) as folder:
        for side, rows in split.items():
            write_stems(folder / f"{side}.txt", list_stems(side, rows, config))
        (folder / "frames.sha256").write_text(hash_paths([kitti]) + "\n")
    counts = {side: count_side(rows, kitti / "labels") for side, rows in split.items()}
    stage.write_metrics({side: count._asdict() for side, count in counts.items()})
    return Summary(
        {f"{side} images": count.images for side, count in counts.items()}, stage.out(SPLIT)
    )


if __name__ == "__main__":
    sys.exit(main("split", run))
