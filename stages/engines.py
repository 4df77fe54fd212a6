"""Stage `engines`: which runtime and precision suit this machine, by measurement.

Each runtime of device.runtimes that is installed, with each of device.precisions, gets its AP on
frames of the test split, its latency percentiles and its difference from ONNX Runtime's FP32; the
fastest one that is accurate enough is chosen, and deploy.run takes it on this machine.
Run: dvc repro engines, or python -m stages.engines --out DIR (about 15 s on 2 CPU cores).
Out: results/engines/this-machine.json (choice, reasons, latencies) and results/engines.json (AP).
"""

import sys
from pathlib import Path

from tqdm import tqdm

from deploy.core.model_json import read_model_json
from deploy.frames import find_frames
from deploy.machine import describe_machine, fingerprint
from stages._device_config import DeviceConfig
from stages._engines import Measured, choice_document, choose, measure_all, prepare_trial
from stages._files import rounded, write_json
from stages._stage import Stage, Summary, main

RESULTS = Path("results/engines")
KITTI = Path("data/kitti")
TEST_SPLIT = Path("data/split/test.txt")


def run(stage: Stage) -> Summary:
    """Measure, choose, and write both files."""
    config = stage.section(DeviceConfig)
    detector, gesture = stage.dep("models/export"), stage.dep("models/gesture")
    kitti, stems = stage.dep(KITTI), stage.dep(TEST_SPLIT).read_text().split()
    frames = find_frames(kitti / "images", kitti / "labels", stems=stems, limit=config.eval_images)
    trial = prepare_trial(detector, gesture, frames)
    with tqdm(desc="engines", unit="engine", disable=None) as bar:

        def show(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        measured = measure_all(trial, config, progress=show)
    choice = choose(measured, config)
    machine = describe_machine()
    document = choice_document(
        choice,
        measured,
        machine={"fingerprint": fingerprint(machine), "machine": machine},
        model=read_model_json(detector),
    )
    with stage.writing(RESULTS) as folder:
        for target in config.targets:
            write_json(folder / f"{target}.json", rounded(document))
    stage.write_metrics({engine.name: accuracy(engine) for engine in measured})
    stage.tracker.log_metrics(
        {f"engines/{e.name}/p50_ms": e.detector_ms["p50_ms"] for e in measured}
    )
    counts: dict[str, float | str] = {
        "engines": len(measured),
        "chosen": f"{choice.runtime} {choice.precision}",
    }
    return Summary(counts, stage.out(RESULTS))


def accuracy(engine: Measured) -> dict[str, float]:
    """Return the figures of an engine that do not differ from run to run."""
    figures = {
        "ap": engine.ap,
        "ap50": engine.ap50,
        "max_difference": engine.max_difference,
        "gesture_agreement": engine.gesture_agreement,
    }
    return {name: value for name, value in figures.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main("engines", run))
