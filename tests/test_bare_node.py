"""Training with tracking=off where only the packages of requirements/train.txt are installed.

Here this interpreter has all others hidden; `make test-bare` does it in environments of their own.
"""

import json
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.stages.detectnet.pictures import INPUT_WH, POSTPROCESS, draw_samples, write_kitti

ROOT = Path(__file__).parents[1]
LIST = ROOT / "requirements" / "train.txt"
FIT = {
    "epochs": 1,
    "batch_size": 2,
    "validate_every_epochs": 1,
    "accelerator": "cpu",
    "precision": "32-true",
}
RENDERED = ("train_videos", "val_videos", "test_videos", "frames_per_video", "train_frames")
SECTIONS = {
    "tracking": {"mode": "off"},
    "backend": {"name": "torch"},
    "dataset": {"render": {name: 1 for name in RENDERED} | {"image_wh": [160, 120]}},
    "model": {"num_layers": 10, "width": 8, "input_wh": list(INPUT_WH)},
    "postprocess": POSTPROCESS._asdict(),
    "train": FIT,
    "prune": {
        "params_frac": 0.8,
        "granularity": 2,
        "min_filters": 2,
        "sensitivity": {"images": 2, "kept_fracs": [0.5]},
    },
    "retrain": {"float_fit": FIT, "qat_fit": FIT, "calibration": {"images": 2}},
    "export": {},
}
# Replaces Python's finder by one that does not see the packages named in the first argument, and
# runs the stages named after it one after another, whatever their exit status.
PROGRAM = """
import runpy, sys
from importlib.machinery import PathFinder

hidden, names = set(sys.argv[1].split(",")), sys.argv[2:]

class Filter:
    find_distributions = PathFinder.find_distributions  # packages look up their own version

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path = [Filter if finder is PathFinder else finder for finder in sys.meta_path]
for name in names:
    sys.argv = [name]
    try:
        runpy.run_module(f"stages.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print(f"{name} {ended.code}", flush=True)
"""


def requirements() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in LIST.read_text().splitlines())
    return [line for line in lines if line]


def brought_by(lines: list[str]) -> set[str]:
    """The installed packages that pip brings for these, themselves included."""
    wanted = map(Requirement, lines)
    found: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(r.name), extra) for r in wanted for extra in ("", *r.extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                place = canonicalize_name(needed.name)
                todo += [(place, more) for more in ("", *needed.extras)]
    return {name for name, _ in found}


def hidden_modules() -> set[str]:
    """Every top-level module that is installed here and would not be on a bare node.

    A fresh interpreter lists them: other tests load packages that put copies of their own on the
    path of this one.
    """
    allowed = brought_by(requirements())
    program = (
        "import json; from importlib.metadata import packages_distributions as all_of; "
        "print(json.dumps(all_of()))"
    )
    listed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return {
        module
        for module, owners in json.loads(listed.stdout).items()
        if not {canonicalize_name(owner) for owner in owners} & allowed
        and module not in {"stages", "deploy"}
    }


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A repository root with eight frames, six of them for training, and the tiniest network."""
    samples = draw_samples(8)
    write_kitti(tmp_path / "data/kitti", samples)
    (tmp_path / "data/split").mkdir()
    for side, stems in (("train", samples.stems[:6]), ("val", samples.stems[6:])):
        (tmp_path / f"data/split/{side}.txt").write_text("\n".join(stems) + "\n")
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(SECTIONS))
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return tmp_path


def test_the_packages_that_training_does_without_are_hidden() -> None:
    hidden = hidden_modules()
    assert {"dvc", "matplotlib", "mlflow", "onnx", "onnxruntime", "pandas", "psutil"} <= hidden
    assert {"torch", "cv2", "numpy", "yaml", "hydra", "modelopt"}.isdisjoint(hidden)


def test_training_needs_no_package_but_those_of_its_list(node: Path) -> None:
    stages = ("train", "prune", "retrain", "export", "download")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(sorted(hidden_modules())), *stages],
        cwd=node,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.splitlines()[-5:] == [
        "train 0",
        "prune 0",
        "retrain 0",
        "export 1",
        "download 0",
    ], done.stderr[-4000:]
    assert (node / "models/retrain/model.pt").is_file()
    assert (node / "results/prune/sensitivity.csv").is_file()
    assert "no sensitivity.png, matplotlib is not installed" in done.stderr
    assert "error: export needs what is not installed: onnx onnxruntime; install" in done.stderr


def test_the_list_has_the_versions_of_pyproject() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    # A node may bring a torch of its own: modelopt's floor instead of the locked version.
    kept = [line for line in requirements() if line != "torch>=2.8"]
    assert len(kept) == len(requirements()) - 1
    assert [line for line in kept if f'"{line}"' not in project] == []
