"""Run a stage in a folder of its own, as DVC would."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from stages._stage import Stage, Summary, main

UNTRACKED = {"tracking": {"mode": "off"}, "backend": {"name": "torch"}}


def run_stage(
    name: str,
    run: Callable[[Stage], Summary],
    root: Path,
    sections: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    """Write resolved.yaml below `root`, run the stage there untracked, return its status."""
    monkeypatch.chdir(root)
    resolved = {**UNTRACKED, **sections}
    (root / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    return main(name, run, argv=[])
