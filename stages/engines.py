"""Stage `engines`: which runtime and precision suit this machine, by measurement.

Each runtime of device.runtimes that is installed, with each of device.precisions, gets its AP on
frames of the test split, its latency percentiles and its difference from ONNX Runtime's FP32; the
fastest one that is accurate enough is chosen, and deploy.run takes it on this machine.
Devices in device.targets are reached over SSH, build their own TensorRT engines and measure them;
one that is off or fails is reported, and its file holds the reason.
Run: dvc repro engines, or python -m stages.engines --out DIR (about 15 s on 2 CPU cores).
Out: results/engines/this-machine.json (choice, reasons, latencies), results/engines/DEVICE.json
(engine.json, AP, latencies, power mode) and results/engines.json (AP).
"""

import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import deploy
from deploy.core.model_json import read_model_json
from deploy.frames import Frame, find_frames
from deploy.machine import describe_machine, fingerprint
from stages._boards import BoardResult, measure_board, pack
from stages._device_config import THIS_MACHINE, DeviceConfig
from stages._engines import Measured, choice_document, choose, measure_all, prepare_trial
from stages._files import rounded, write_json
from stages._ssh import BoardError
from stages._stage import Stage, Summary, main

LOGGER = logging.getLogger(__name__)

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
    results = measure_boards(stage, config, {"detector": detector, "gesture": gesture}, frames)
    with stage.writing(RESULTS) as folder:
        write_json(folder / f"{THIS_MACHINE}.json", rounded(document))
        for target, result in results.items():
            write_json(folder / f"{target}.json", rounded(device_document(result)))
    boards = {name: found for name, found in results.items() if isinstance(found, BoardResult)}
    record_figures(stage, measured, boards)
    counts: dict[str, float | str] = {
        "engines": len(measured),
        "chosen": f"{choice.runtime} {choice.precision}",
    }
    if results:
        counts["devices"] = len(boards)
    if failed := sorted(set(results) - set(boards)):
        counts["failed devices"] = ", ".join(failed)
    return Summary(counts, stage.out(RESULTS))


def record_figures(
    stage: Stage, measured: Sequence[Measured], boards: Mapping[str, BoardResult]
) -> None:
    """Write the figures that do not differ from run to run, and track the latencies as well."""
    figures = {engine.name: accuracy(engine) for engine in measured}
    figures.update({name: board.accuracy() for name, board in boards.items()})
    stage.write_metrics(figures)
    latencies = {f"{e.name}/p50_ms": e.detector_ms["p50_ms"] for e in measured}
    for name, board in boards.items():
        latencies.update({f"{name}/{key}": value for key, value in board.latencies().items()})
    stage.tracker.log_metrics({f"engines/{name}": value for name, value in latencies.items()})


def measure_boards(
    stage: Stage, config: DeviceConfig, models: dict[str, Path], frames: Sequence[Frame]
) -> dict[str, BoardResult | BoardError]:
    """Measure every device of the targets, one after another; an error stands for its result."""
    targets = [target for target in config.targets if target != THIS_MACHINE]
    if not targets:
        return {}
    has_gesture = not read_model_json(models["gesture"]).is_encrypted
    packed = models if has_gesture else {"detector": models["detector"]}
    programs, labels = Path(deploy.__path__[0]), KITTI / "labels"
    results: dict[str, BoardResult | BoardError] = {}
    with tempfile.TemporaryDirectory() as work:
        archive = pack(programs, packed, frames, labels, Path(work))
        for target in targets:
            LOGGER.info("engines: %s, over SSH", target)
            results[target] = _measure_one(target, archive, config, has_gesture=has_gesture)
    return results


def _measure_one(
    target: str, archive: Path, config: DeviceConfig, *, has_gesture: bool
) -> BoardResult | BoardError:
    board = config.boards[target]
    try:
        return measure_board(target, board, archive, config, has_gesture=has_gesture)
    except BoardError as error:
        LOGGER.warning("engines: %s; to go on: dvc repro -f -s engines", error)
        return error


def device_document(result: BoardResult | BoardError) -> dict[str, Any]:
    """Return the JSON value of a device's file."""
    return (
        {"schema": 1, "error": str(result)}
        if isinstance(result, BoardError)
        else result.document()
    )


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
