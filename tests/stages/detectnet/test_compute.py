"""Several devices train what one does; devices that are not there are named."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stages.detectnet.compute import open_fabric
from stages.detectnet.config import FitConfig
from stages.detectnet.errors import DetectNetError
from tests.stages.detectnet.fit_on_devices import write_fit

MODULE = "tests.stages.detectnet.fit_on_devices"
ROOT = Path(__file__).parents[3]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize(
    "launch",
    [["-m", MODULE, "--devices", "2"], [*TORCHRUN, "-m", MODULE, "--devices", "auto"]],
    ids=["fabric", "torchrun"],
)
def test_two_devices_train_what_one_with_twice_the_batch_does(
    launch: list[str], tmp_path: Path
) -> None:
    """The gradient is a mean over other groups of pictures, so that losses agree to rounding."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_fit("1", 16, tmp_path / "one")
    command = [sys.executable, *launch, "--batch", "8", "--out", str(tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one = read(tmp_path / "one/0.json")
    first, second = (read(tmp_path / f"two/{rank}.json") for rank in (0, 1))
    assert (first["is_main"], second["is_main"]) == (True, False)
    steps = zip(first["pictures"], second["pictures"], strict=True)
    assert [ours + theirs for ours, theirs in steps] == one["pictures"]
    assert len(one["history"]) == 3
    for ours, theirs in zip(first["history"], one["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("accelerator", "devices"), [("cuda", "2"), ("tpu", "auto"), ("abacus", "auto"), ("cpu", "0")]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda is there")
def test_devices_that_are_not_there_are_one_line(accelerator: str, devices: str) -> None:
    config = dataclasses.replace(FitConfig(), accelerator=accelerator, devices=devices)
    with pytest.raises(DetectNetError) as caught:
        open_fabric(config, nn.Conv2d(3, 3, 1))
    message = str(caught.value)
    assert message.startswith(f"accelerator {accelerator}, devices {devices}, num_nodes 1 cannot")
    assert message.endswith("; set accelerator and devices to auto")
    assert "\n" not in message
