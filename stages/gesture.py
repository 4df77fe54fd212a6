"""Stage `gesture`: the gesture classifier, trained on the hands whose gesture the dataset labels,
or NVIDIA's GestureNet.

Run: dvc repro gesture, or python -m stages.gesture gesture.epochs=2 --out DIR (about 40 s on 2
CPU cores). A killed run goes on after its last whole epoch. A dataset without gesture labels
(EgoHands) gets a classifier that is trained on drawn hands; crops of one's own (gesture.folders)
are added to either, and measured by source. Writes models/gesture, the folder
results/gesture and results/gesture.json, whose figures are of the exported files in ONNX Runtime.
With gesture=gesturenet nothing is trained or measured: models/gesture holds the encrypted file and
how to convert it on the device.
"""

import csv
import dataclasses
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from deploy.core.roi import RoiRule
from deploy.core.smoother import DEFAULT_RULE
from deploy.machine import available_cpus
from stages._stage import Stage, Summary, main
from stages.datasets.index import read_gestures, read_stems
from stages.gesturenet.calibration import calibrate_temperature
from stages.gesturenet.config import GESTURES, INPUT_WH, GestureConfig
from stages.gesturenet.converting import GUIDE, support_lines
from stages.gesturenet.crop_folders import load_crop_folders, source_of, split_sources
from stages.gesturenet.crops import (
    NO_GESTURE,
    Crops,
    check_classes,
    concatenate_crops,
    load_labelled_crops,
    load_unlabelled_crops,
)
from stages.gesturenet.drawn_hands import draw_crops
from stages.gesturenet.fallback import LabelledFrames, draw_frames
from stages.gesturenet.feed import crops_to_tensor, plain_crops
from stages.gesturenet.figures import save_confusion, save_reliability, save_samples
from stages.gesturenet.metrics import (
    accuracy,
    calibration_bins,
    confusion_matrix,
    false_alarm_share,
    summarise,
)
from stages.gesturenet.model import count_macs, count_parameters
from stages.gesturenet.ngc import bring_etlt, write_folder
from stages.gesturenet.onnx_export import FILES, export_model, run_onnx
from stages.gesturenet.training import Row, fit

LOGGER = logging.getLogger(__name__)
KITTI = Path("data/kitti")
SPLIT = Path("data/split")
MODEL = Path("models/gesture")
RESULTS = Path("results/gesture")
DOWNLOADS = Path(".work/downloads")
DATASET = "dataset"


def run(stage: Stage) -> Summary:
    """Make the classifier that gesture.model names."""
    config = stage.section(GestureConfig)
    if config.model == "gesturenet":
        return take_gesturenet(stage, config)
    return train_open(stage, config)


def take_gesturenet(stage: Stage, config: GestureConfig) -> Summary:
    """Write the encrypted file, its model.json and how to convert it; say where it can run."""
    etlt = bring_etlt(config, root=Path.cwd(), downloads=DOWNLOADS)
    with stage.writing(MODEL) as folder:
        info = write_folder(folder, etlt, config)
        guide = (folder / GUIDE).read_text()
    with stage.writing(RESULTS) as folder:
        (folder / GUIDE).write_text(guide)
    stage.write_metrics(
        {"encrypted": True, "sha256": info.sha256[info.files["etlt"]], **info.versions}
    )
    for line in support_lines():
        LOGGER.info("gesture: %s", line)
    counts: dict[str, float | str] = {
        info.versions["gesturenet"]: "GestureNet",
        "MB": len(etlt) / 1e6,
    }
    return Summary(counts, stage.out(MODEL))


def train_open(stage: Stage, config: GestureConfig) -> Summary:
    """Train, calibrate, export and measure the open classifier."""
    stage.need("matplotlib", "onnx", "onnxruntime")
    rule = RoiRule(**dataclasses.asdict(config.roi))
    frames, trained_on = _labelled_frames(stage, config)
    crops = add_folders(load_sides(frames, config, rule), config, rule)
    crops["train"] = concatenate_crops([crops["train"], *more_training_crops(stage, config, rule)])
    check_classes(crops["train"])

    def log(row: Row) -> None:
        numbers = {f"gesture/{key}": value for key, value in row.items() if key != "epoch"}
        stage.tracker.log_metrics(numbers, step=int(row["epoch"]))

    result = fit(
        crops["train"], crops["val"], config, rule=rule, work_dir=stage.work_dir(), log=log
    )
    temperature = calibrate_temperature(result.model, crops["val"])
    plain = plain_crops(crops["train"], num=config.num_calibration, rule=rule)
    with stage.writing(MODEL) as folder:
        exported = export_model(
            folder, result.model, calibration=crops_to_tensor(plain), rule=rule
        )
        tensor = crops_to_tensor(crops["test"].images).numpy()
        scores = {role: run_onnx(folder / FILES[role], tensor) for role in ("fp32", "qdq")}
    metrics = measure(crops["test"].class_id, scores)
    _write_results(stage, crops["test"], scores["fp32"], result.history)
    stage.write_metrics(
        {
            **metrics,
            "per_source": measure_sources(crops["test"], scores["fp32"]),
            "macs": count_macs(result.model, INPUT_WH),
            "num_train_crops": len(crops["train"].names),
            "params": count_parameters(result.model),
            "parity": exported.difference,
            "temperature": temperature,
            "trained_on": trained_on,
        }
    )
    stage.tracker.log_model(stage.out(MODEL) / FILES["fp32"], name="gesture-classifier")
    return Summary(
        {"crops": len(crops["train"].names), "accuracy": metrics["accuracy"]},  # type: ignore[dict-item]
        stage.out(MODEL),
    )


def load_sides(frames: LabelledFrames, config: GestureConfig, rule: RoiRule) -> dict[str, Crops]:
    """Cut the crops of train, with context around the region, and of val and test, without."""
    view = {"train": (context_rule(config, rule), config.context_px), "val": (rule, INPUT_WH[0])}
    crops = {}
    for side, stems in frames.stems.items():
        side_rule, size_px = view.get(side, view["val"])
        crops[side] = load_labelled_crops(frames.kitti_dir, stems, rule=side_rule, size_px=size_px)
    return crops


def context_rule(config: GestureConfig, rule: RoiRule) -> RoiRule:
    """Return the rule of training crops: what is around the region too, for errors and turns."""
    return rule._replace(mode="ratio", ratio=config.context_ratio, square=True, border="pad")


def more_training_crops(stage: Stage, config: GestureConfig, rule: RoiRule) -> list[Crops]:
    """Draw the hands of gesture.drawn, and cut the dataset's that show no gesture, if wanted."""
    parts, context, size_px = [], context_rule(config, rule), config.context_px
    if config.drawn.videos:
        workers = available_cpus()
        parts.append(draw_crops(config.drawn, rule=context, size_px=size_px, workers=workers))
    if config.unlabelled_random:
        stems = read_stems(stage.dep(SPLIT) / "train.txt")
        kitti = stage.dep(KITTI)
        parts.append(load_unlabelled_crops(kitti, stems, rule=context, size_px=size_px))
    return parts


def add_folders(crops: dict[str, Crops], config: GestureConfig, rule: RoiRule) -> dict[str, Crops]:
    """Add the crops of gesture.folders to the three sides, split by their sources."""
    if not config.folders.paths:
        return crops
    own = load_crop_folders(
        [Path(path).expanduser() for path in config.folders.paths],
        size_px=config.context_px,
        ratio=config.folders.ratio,
        joints=Path(config.folders.joints).expanduser() if config.folders.joints else None,
    )
    sides = split_sources(own, val=config.folders.val, test=config.folders.test)
    for side in ("val", "test"):
        part = sides[side]
        if len(part.names):
            images = plain_crops(part, num=len(part.names), rule=rule)
            boxes = part.boxes * (INPUT_WH[0] / config.context_px)
            sides[side] = part._replace(images=images, boxes=boxes)
    added = ", ".join(f"{len(sides[side].names)} {side}" for side in sides)
    LOGGER.info("gesture: crops of your own: %s", added)
    return {
        side: concatenate_crops([crops[side], part]) if len(part.names) else crops[side]
        for side, part in sides.items()
    }


def measure_sources(test: Crops, probabilities: np.ndarray) -> list[dict[str, object]]:
    """Return accuracy and number of crops of each source of one's own; the dataset's are one."""
    sources = np.array([source_of(name) if "/" in name else DATASET for name in test.names])
    is_hit = probabilities.argmax(axis=1) == test.class_id
    return [
        {
            "source": str(source),
            "accuracy": float(is_hit[sources == source].mean()),
            "num_crops": int((sources == source).sum()),
        }
        for source in np.unique(sources)
    ]


def measure(class_id: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, object]:
    """Return the figures of results/gesture.json that compare scores (N, 6) with labels (N,)."""
    answers = {role: one.argmax(axis=1) for role, one in scores.items()}
    int8 = confusion_matrix(class_id, answers["qdq"], num_classes=len(GESTURES))
    agreement = float((answers["fp32"] == answers["qdq"]).mean()) if len(class_id) else 1.0
    if agreement < 0.99:
        LOGGER.warning(
            "gesture: INT8 agrees with FP32 on %.1f %% of the test crops only", 100 * agreement
        )
    return {
        **summarise(class_id, scores["fp32"], names=GESTURES),
        "accuracy_int8": accuracy(int8),
        "false_alarm_share": false_alarm_share(
            scores["fp32"],
            class_id,
            idle=GESTURES.index(NO_GESTURE),
            threshold=DEFAULT_RULE.enter_threshold,
        ),
        "int8_agreement": agreement,
    }


def _labelled_frames(stage: Stage, config: GestureConfig) -> tuple[LabelledFrames, str]:
    """The dataset's frames and "dataset"; or drawn ones and "rendered" where a side lacks labels.

    A frame that stands in a list several times counts once: classes are balanced otherwise here.
    """
    kitti, split = stage.dep(KITTI), stage.dep(SPLIT)
    lists = {side: read_stems(split / f"{side}.txt") for side in ("train", "val", "test")}
    stems = {side: list(dict.fromkeys(listed)) for side, listed in lists.items()}
    labelled = {row.stem for row in read_gestures(kitti / "gestures.csv")}
    if all(labelled & set(listed) for listed in stems.values()):
        return LabelledFrames(kitti, stems), "dataset"
    LOGGER.info("gesture: train, val or test has no gesture labels, drawing hands instead")
    return draw_frames(config.fallback, stage.work_dir() / "drawn"), "rendered"


def _write_results(
    stage: Stage, test: Crops, probabilities: np.ndarray, history: Sequence[Row]
) -> None:
    answers = probabilities.argmax(axis=1)
    with stage.writing(RESULTS) as folder:
        pairs = [(GESTURES[a], GESTURES[p]) for a, p in zip(test.class_id, answers, strict=True)]
        _write_table(folder / "confusion.csv", ("actual", "predicted"), pairs)
        columns = tuple(history[0])
        _write_table(folder / "history.csv", columns, [tuple(row.values()) for row in history])
        confusion = confusion_matrix(test.class_id, answers, num_classes=len(GESTURES))
        save_confusion(folder / "confusion.png", confusion)
        bins = calibration_bins(probabilities, test.class_id)
        save_reliability(folder / "reliability.png", bins)
        save_samples(folder / "samples.jpg", test, probabilities)
    for name in ("confusion.png", "reliability.png", "samples.jpg"):
        stage.tracker.log_figure(stage.out(RESULTS) / name)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            [round(value, 6) if isinstance(value, float) else value for value in row]
            for row in rows
        )


if __name__ == "__main__":
    sys.exit(main("gesture", run))
