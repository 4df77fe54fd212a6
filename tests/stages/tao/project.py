"""A repository root with a few frames, and the sections of resolved.yaml for the TAO backend."""

import shutil
from pathlib import Path

import yaml

from stages import _stage, evaluate, export, prune, retrain, train
from tests.stages.detectnet.pictures import INPUT_WH, draw_samples, write_kitti

ROOT = Path(__file__).parents[3]
PRESETS = ("model/resnet34", "postprocess/tao", "prune/tao", "retrain/tao", "train/tao")
STAGES = {"train": train, "prune": prune, "retrain": retrain, "export": export}


def preset(name: str) -> dict:
    """Read a file of conf/."""
    return yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text())


def sections(**tao: object) -> dict:
    """The sections of backend=tao, two epochs long; tao: changes of backend.tao."""
    found = {name.partition("/")[0]: preset(name) for name in PRESETS}
    found["model"]["input_wh"] = list(INPUT_WH)
    for fit in (found["train"], found["retrain"]["qat_fit"]):
        fit.update(epochs=2, batch_size=2)
    settings = {**preset("backend/tao")["backend"]["tao"], "via": "docker", **tao}
    return {
        **found,
        "backend": {"name": "tao", "tao": settings},
        "export": preset("export/default"),
        "evaluate": {"num_samples": 2, "speed_images": 1},
        "tracking": {"mode": "off"},
    }


def write_project(root: Path) -> Path:
    """Write eight frames, PNG of the network's size: four train, two val, two test."""
    samples = draw_samples(8)
    write_kitti(root / "data/kitti", samples)
    width, height = INPUT_WH
    rows = [f"{stem},{stem[:2]},0,{width},{height},0\n" for stem in samples.stems]
    header = "stem,video,frame,width,height,train_only\n"
    (root / "data/kitti/index.csv").write_text(header + "".join(rows))
    (root / "data/split").mkdir()
    sides = {"train": samples.stems[:4], "val": samples.stems[4:6], "test": samples.stems[6:]}
    for side, stems in sides.items():
        (root / f"data/split/{side}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    return root


def run(name: str, root: Path, resolved: dict) -> int:
    """Run a stage as DVC would, in root (the current folder); `evaluate@train` has its step."""
    (root / "resolved.yaml").write_text(yaml.safe_dump(resolved))
    stage, _, step = name.partition("@")
    if step:
        arguments = ["--step", step]
        return _stage.main("evaluate", evaluate.run, options=evaluate.add_options, argv=arguments)
    return _stage.main(stage, STAGES[stage].run, argv=[])
