"""The loop of deploy.run with TensorRT engines, beside the engines' own GPU times and copies."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from deploy import pipeline, run
from deploy.benchmark import measure_steps
from deploy.core.boxes import Detections
from deploy.core.cluster import postprocess_maps
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.engine import Engine, open_engine
from deploy.feed import feed
from deploy.latency import Latency, summarize
from deploy.source import open_source
from deploy.tensorrt_record import find_engine

PRECISIONS = ("fp16", "int8")
CLASSIFIER_PRECISION = "fp16"
WARM_UP = 20
KEPT_FRAMES = 120
TWO_HANDS = np.array([[200, 150, 420, 380], [700, 300, 900, 560]], np.float32)


def measure_loops(folders: list[Path], clip: Path, repeats: int) -> dict[str, Any]:
    """Run each detector, with the classifier where there is one, over the clip's frames."""
    kinds = {folder: read_model_json(folder).kind for folder in folders}
    classifiers = [f for f in folders if kinds[f] == "classifier" and _is_built(f)]
    with open_source(str(clip)) as source:
        images = [frame.image for frame in itertools.islice(source.frames(), KEPT_FRAMES)]
    found: dict[str, Any] = {}
    for folder in folders:
        for precision in PRECISIONS:
            if kinds[folder] == "detector" and find_engine(folder, precision) is not None:
                name = f"{folder.name} {precision}"
                found[name] = measure_loop(folder, precision, classifiers[:1], images, repeats)
                found[name]["deploy.run"] = run_clip(folder, precision, classifiers[:1], clip)
    return found


def measure_loop(
    folder: Path, precision: str, classifiers: list[Path], images: list[np.ndarray], repeats: int
) -> dict[str, Any]:
    """Time every step of the pipeline, and frames that overlap."""
    with contextlib.ExitStack() as stack:
        engines = {"detector": stack.enter_context(_open(folder, precision))}
        for place in classifiers:
            engines["gesture"] = stack.enter_context(_open(place, CLASSIFIER_PRECISION))
        gpu = {
            name: summarize(
                engine.time_gpu(batch=1, warm_up=WARM_UP, repeats=repeats)["gpu_copies"]
            )
            for name, engine in engines.items()
        }
        steps = measure_steps(engines, images, num_frames=repeats, warm_up=WARM_UP)
        found: dict[str, Any] = {"gpu_copies_ms": gpu, "steps": steps}
        found["overlapped"] = time_overlapped(engines["detector"], images, repeats)
        if "gesture" in engines:
            found["two_hands"] = time_two_hands(engines["gesture"], images[0], repeats)
    budget = gpu["detector"]["p50_ms"]
    if "classify" in steps:
        budget += gpu["gesture"]["p50_ms"]
    found["gpu_and_copies_ms"] = round(budget, 4)
    found["ratio"] = round(steps["total"]["p50_ms"] / budget, 3)
    return found


def time_overlapped(detector: Engine, images: list[np.ndarray], repeats: int) -> dict[str, Any]:
    """Time from one frame's detections to the next one's, each frame being started before the
    detections of the one before are worked out: the GPU does not wait for the host."""
    samples = []
    waiting = None
    last_s = 0.0
    for index, image in enumerate(itertools.islice(itertools.cycle(images), WARM_UP + repeats)):
        started = feed(detector, image)
        if waiting is not None:
            find_hands(detector, image, waiting())
            now_s = time.perf_counter()
            if index > WARM_UP:
                samples.append((now_s - last_s) * 1e3)
            last_s = now_s
        waiting = started
    if waiting is not None:
        waiting()
    return summarize(samples)


def time_two_hands(engine: Engine, image: np.ndarray, repeats: int) -> dict[str, Any]:
    """Time crop and classification of two hands of a frame, in milliseconds."""
    latency = Latency()
    for index in range(WARM_UP + repeats):
        if index == WARM_UP:
            latency = Latency()
        with latency.measure("crop and classify"):
            pipeline.classify_hands(engine, image, TWO_HANDS, Latency())
    return latency.summary()


def run_clip(folder: Path, precision: str, classifiers: list[Path], clip: Path) -> Any:
    """Run the program deploy.run on the clip; return its statistics."""
    with tempfile.TemporaryDirectory() as place:
        stats = Path(place) / "stats.json"
        words = ["--source", str(clip), "--sink", str(Path(place) / "events.jsonl")]
        words += ["--detector", str(folder), "--runtime", "tensorrt", "--precision", precision]
        words += ["--gesture", str(classifiers[0])] if classifiers else ["--no-gesture"]
        if run.main([*words, "--stats", str(stats)]) != 0:
            raise DeployError("deploy.run failed, see above")
        return json.loads(stats.read_text())


def find_hands(engine: Any, image: np.ndarray, outputs: dict[str, np.ndarray]) -> Detections:
    """Work out the detections of a frame from the network's maps."""
    model = engine.model
    coverage, bbox = model.map_names
    return postprocess_maps(
        outputs[coverage][0],
        outputs[bbox][0],
        model.grid,
        model.postprocess,
        input_wh=model.input_wh,
        image_wh=(image.shape[1], image.shape[0]),
        apply_confidence_threshold=True,
        resize=model.preprocess.resize,
    )


def _open(folder: Path, precision: str) -> Any:
    return open_engine(folder, runtime="tensorrt", precision=precision)


def _is_built(folder: Path) -> bool:
    return find_engine(folder, CLASSIFIER_PRECISION) is not None
