"""Stage `evaluate`: how well the detector of one step finds the hands of unseen videos.

Run: dvc repro evaluate@export, or python -m stages.evaluate --step export --out DIR (seconds).
train, prune and retrain are measured in PyTorch, export through deploy's engine: detector_qdq.onnx
gives the main figures and detector.onnx those that begin with fp32_. Models of TAO are measured
through deploy's engine too, with TAO's own figure on the same frames as tao_map.
results/evaluate/<step>.json has the figures, beside it the precision-recall curve (JSON, PNG),
sample pictures and the speed, which is in a file of its own because it differs from run to run.
"""

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.core.cluster import Postprocess
from deploy.core.errors import UserError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.engine import open_engine
from deploy.evaluation import (
    Evaluation,
    curve_points,
    evaluate_model,
    measure_speed,
    metrics_document,
)
from deploy.frames import Frame, find_frames
from deploy.samples import choose_samples, draw_sheet, encode_jpeg
from stages._evaluate_plot import draw_curves
from stages._files import write_json
from stages._schema import BackendConfig, EvaluateConfig, PostprocessConfig
from stages._stage import Stage, Summary, main
from stages._tao_evaluate import TaoModel, can_run, refuse_encrypted

STEPS = ("train", "prune", "retrain", "export")
KITTI = Path("data/kitti")
SPLITS = Path("data/split")
RESULTS = Path("results/evaluate")
TORCH_BATCH = 8
FP32_KEYS = (
    "ap",
    "ap50",
    "ap75",
    "ap_tao",
    "precision",
    "recall",
    "f1",
    "recall_sure",
    "sure_confidence_threshold",
)


def run(stage: Stage) -> Summary:
    """Measure the model of --step and write its figures and pictures."""
    stage.need("matplotlib")
    config, step = stage.section(EvaluateConfig), stage.args.step
    folder = stage.dep(Path("models") / step)
    postprocess = Postprocess(**asdict(stage.section(PostprocessConfig)))
    info = read_model_json(folder)._replace(postprocess=postprocess)
    kitti = stage.dep(KITTI)
    frames = split_frames(kitti, stage.dep(SPLITS / f"{config.split}.txt"), limit=config.limit)
    videos = read_videos(kitti)
    backend = stage.section(BackendConfig)
    own: dict[str, float | str] = {}
    model = open_tao(stage, backend, info, frames)
    if model is not None:
        own["tao_map"] = model.measure(postprocess)
    if model is not None and not can_run(info):
        evaluation = model.detect(postprocess, videos)
        write_json(stage.out(RESULTS / f"{step}_speed.json"), {"engine": {"runtime": "tao"}})
    else:
        with open_step(folder, info) as engine:
            evaluation = measure(engine, info, frames, videos, name=step)
            speed = measure_speed(engine.infer, info, frames, num_images=config.speed_images)
            speed_values = {**speed._asdict(), "engine": engine.info()}
            if backend.is_tao:
                own["precision"] = engine.info()["precision"]
            write_json(stage.out(RESULTS / f"{step}_speed.json"), speed_values)
    document = {**metrics_document(evaluation), **own}
    curves = {step: evaluation.metrics.curve}
    if step == "export" and "qdq" in info.files:
        with open_engine(folder, precision="fp32") as engine:
            fp32 = measure(engine, info, frames, videos, name="export, FP32")
        figures = metrics_document(fp32)
        document.update({f"fp32_{key}": figures[key] for key in FP32_KEYS})
        curves = {"export, INT8": evaluation.metrics.curve, "export, FP32": fp32.metrics.curve}
    write_json(stage.out(RESULTS / f"{step}_pr.json"), curve_points(evaluation.metrics))
    threshold = postprocess.confidence_threshold
    plot = RESULTS / f"{step}_pr.png"
    with stage.writing(plot, is_file=True) as aside:
        draw_curves(aside, curves, confidence_threshold=threshold)
    sheet = RESULTS / f"{step}_samples.jpg"
    with stage.writing(sheet, is_file=True) as aside:
        aside.write_bytes(sample_sheet(frames, evaluation, threshold, config.num_samples))
    for picture in (plot, sheet):
        stage.tracker.log_figure(stage.out(picture))
    path = stage.write_metrics(document, RESULTS / f"{step}.json")
    counts = {"images": len(frames), "boxes": evaluation.metrics.num_boxes}
    return Summary({**counts, "AP50": evaluation.metrics.ap50}, path)


def measure(
    engine: Any, info: ModelInfo, frames: Sequence[Frame], videos: Mapping[str, str], *, name: str
) -> Evaluation:
    """Run the engine over all frames, with a progress bar."""
    batch_size = TORCH_BATCH if engine.info()["runtime"] == "torch" else 1
    with tqdm(total=len(frames), desc=f"evaluate {name}", unit="image", disable=None) as bar:

        def show(done: int, _: int) -> None:
            bar.update(done - bar.n)

        return evaluate_model(
            engine.infer, info, frames, videos=videos, batch_size=batch_size, progress=show
        )


def open_tao(
    stage: Stage, backend: BackendConfig, info: ModelInfo, frames: Sequence[Frame]
) -> TaoModel | None:
    """Return the model for TAO's own measurement, or None where the folder has no such file."""
    if not can_run(info):
        refuse_encrypted(info)
    if not backend.is_tao or "tao" not in info.files:
        return None
    return TaoModel(stage, backend.tao, Path("models") / stage.args.step, frames)


@contextlib.contextmanager
def open_step(folder: Path, info: ModelInfo) -> Iterator[Any]:
    """Open a model folder: its ONNX in deploy's engine, with INT8 if it has that, else PyTorch."""
    if "torch" not in info.files:
        with open_engine(folder, precision="int8" if "qdq" in info.files else "fp32") as engine:
            yield engine
        return
    # PyTorch takes two seconds to import and export does not need it.
    from stages.detectnet.inference import open_torch_model

    with open_torch_model(folder) as model:
        yield model


def split_frames(kitti: Path, split: Path, *, limit: int | None) -> list[Frame]:
    """List the labelled frames of a split; UserError when it has none."""
    stems = split.read_text().split()
    if not stems:
        raise UserError(f"{split} lists no image; give the split more videos in conf/split")
    return find_frames(kitti / "images", kitti / "labels", stems=stems, limit=limit)


def read_videos(kitti: Path) -> dict[str, str]:
    """Read the video of each image from data/kitti/index.csv."""
    with (kitti / "index.csv").open(newline="") as stream:
        return {row["stem"]: row["video"] for row in csv.DictReader(stream)}


def sample_sheet(
    frames: Sequence[Frame], evaluation: Evaluation, threshold: float, count: int
) -> bytes:
    """Return the JPEG with the worst, middling and best frames at a confidence threshold."""
    found = evaluation.predictions
    samples = choose_samples(frames, found, count=count, confidence_threshold=threshold)
    return encode_jpeg(draw_sheet(samples, found, confidence_threshold=threshold))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --step."""
    parser.add_argument("--step", required=True, choices=STEPS, help="which models/<step>")


if __name__ == "__main__":
    sys.exit(main("evaluate", run, options=add_options))
