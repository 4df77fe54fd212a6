"""Stage `bundle`: everything that a device needs, as one archive that runs alone.

dist/hand-gestures.tar.gz holds deploy/, models/detector, models/gesture, engines.json (the
measured choice of runtime), manifest.json (SHA-256 of each file), README.md and requirements.txt.
Equal inputs give equal bytes. Run: dvc repro bundle, or python -m stages.bundle --out DIR (1 s).
"""

import sys
from pathlib import Path

from stages._bundle import collect_files, write_archive
from stages._stage import Stage, Summary, main

ARCHIVE = Path("dist/hand-gestures.tar.gz")
MODELS = {"detector": "models/export", "gesture": "models/gesture"}
ENGINES = Path("results/engines/this-machine.json")


def run(stage: Stage) -> Summary:
    """Collect the files and write the archive."""
    models = {name: stage.dep(folder) for name, folder in MODELS.items()}
    files = collect_files(stage.dep("deploy"), models, stage.dep(ENGINES))
    with stage.writing(ARCHIVE, is_file=True) as aside, aside.open("wb") as stream:
        write_archive(stream, files)
    archive = stage.out(ARCHIVE)
    return Summary({"files": len(files), "MB": archive.stat().st_size / 1e6}, archive)


if __name__ == "__main__":
    sys.exit(main("bundle", run))
