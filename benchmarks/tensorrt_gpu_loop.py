"""The loop of deploy.run with TensorRT engines, beside the engines' own GPU times and copies."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tensorrt_gpu_builds import Job, built_folder
from deploy import run
from deploy.benchmark import measure_steps
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.engine import open_engine
from deploy.latency import summarize
from deploy.pipeline import Pipeline
from deploy.readers import AUTO
from deploy.running import run_source
from deploy.sink import make_sinks
from deploy.source import DEFAULT_FPS, Frame, Lend, open_source

VARIANTS = ("fp16", "int8_qdq")
CLASSIFIER_VARIANT = "fp16"
WARM_UP = 20
KEPT_FRAMES = 120
# The bar: the time between two results at most so many times the engines' GPU time and copies.
LARGEST_RATIO = 1.3


def list_loops(built: list[Job], clip: Path, repeats: int) -> dict[str, Callable[[], Any]]:
    """Return by name what measures the loop of each built detector, with and without gestures."""
    kinds = {job: read_model_json(job.model).kind for job in built}
    classifiers = [
        built_folder(job)
        for job in built
        if kinds[job] == "classifier" and job.variant.name == CLASSIFIER_VARIANT
    ]
    loops: dict[str, Callable[[], Any]] = {}
    for job in built:
        if kinds[job] == "detector" and job.variant.name in VARIANTS:
            name = f"{job.model.name} {job.variant.name}"
            for classifier in [None, *classifiers[:1]]:
                loops[name + (" and gestures" if classifier else "")] = functools.partial(
                    measure_loop, built_folder(job), classifier, clip, repeats
                )
    return loops


def measure_loop(
    detector: Path, classifier: Path | None, clip: Path, repeats: int
) -> dict[str, Any]:
    """Measure the program on the clip, read as it chooses and by one reader; the same frames from
    memory; and each step by itself."""
    with open_source(str(clip)) as source:
        images = [frame.image for frame in itertools.islice(source.frames(), KEPT_FRAMES)]
    with contextlib.ExitStack() as stack:
        engines = {"detector": stack.enter_context(open_engine(detector, runtime="tensorrt"))}
        if classifier is not None:
            engines["gesture"] = stack.enter_context(open_engine(classifier, runtime="tensorrt"))
        times = {
            name: engine.time_gpu(batch=1, warm_up=WARM_UP, repeats=repeats)["gpu_copies"]
            for name, engine in engines.items()
        }
        found: dict[str, Any] = {
            "gpu_copies_ms": {name: summarize(values) for name, values in times.items()},
            "hands_per_frame": count_hands(engines, images),
            "steps": measure_steps(engines, images, num_frames=repeats, warm_up=WARM_UP),
            "from_memory": run_from_memory(engines, images, num_frames=WARM_UP + repeats),
        }
    found["deploy.run"] = run_clip(detector, classifier, clip, readers=AUTO)
    found["deploy.run, one reader"] = run_clip(detector, classifier, clip, readers="1")
    found.update(judge(found))
    return found


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """Compare the time between results with the engines' own: the detector's, and the classifier's
    as often as it ran, at batch 1."""
    stats = found["deploy.run"]
    latency = stats["latency"]
    engines_ms = found["gpu_copies_ms"]["detector"]["p50_ms"]
    if "classify" in latency:
        share = latency["classify"]["samples"] / stats["frames"]
        engines_ms += share * found["gpu_copies_ms"]["gesture"]["p50_ms"]
    period_ms = latency["period"]["p50_ms"]
    one_reader_ms = found["deploy.run, one reader"]["latency"]["period"]["p50_ms"]
    memory_ms = found["from_memory"]["period"]["p50_ms"]
    return {
        "engines_ms": round(engines_ms, 4),
        "readers": stats["readers"],
        "period_ms": period_ms,
        # The median says nothing of bursts.
        "mean_ms": latency["period"]["mean_ms"],
        "period_ratio": round(period_ms / engines_ms, 3),
        "is_within": bool(period_ms <= LARGEST_RATIO * engines_ms),
        "one_reader_ms": one_reader_ms,
        "one_reader_ratio": round(one_reader_ms / engines_ms, 3),
        "from_memory_ms": memory_ms,
        "from_memory_ratio": round(memory_ms / engines_ms, 3),
    }


def count_hands(engines: dict[str, Any], images: list[np.ndarray]) -> float:
    """Return how many hands are found in a frame, on average."""
    pipeline = Pipeline(engines["detector"], engines.get("gesture"))
    frames = [Frame(image, n, n / DEFAULT_FPS, 0.0) for n, image in enumerate(images)]
    return round(float(np.mean([len(pipeline.process(frame).hands) for frame in frames])), 2)


class MemorySource:
    """Decoded frames, again and again: the loop without a decoder beside it."""

    uri = "memory"
    is_live = False
    fps = DEFAULT_FPS

    def __init__(self, images: list[np.ndarray], num_frames: int) -> None:
        self._images, self._num_frames = images, num_frames

    def frames(self, lend: Lend | None = None) -> Iterator[Frame]:
        """Yield the frames, copied into lent memory as a decoder writes them."""
        images = itertools.islice(itertools.cycle(self._images), self._num_frames)
        for number, image in enumerate(images):
            started = time.perf_counter()
            room = lend(image.shape) if lend is not None else None
            if room is None:
                room = np.empty_like(image)
            np.copyto(room, image)
            now_s = time.perf_counter()
            yield Frame(room, number, number / self.fps, now_s, (now_s - started) * 1e3)

    def stop(self) -> None:
        """Nothing waits."""


def run_from_memory(
    engines: dict[str, Any], images: list[np.ndarray], *, num_frames: int
) -> dict[str, Any]:
    """Run the loop on frames that need no decoding; return the percentiles of its steps."""
    pipeline = Pipeline(engines["detector"], engines.get("gesture"))
    source: Any = MemorySource(images, num_frames)
    run_source(source, pipeline, make_sinks([]))
    return pipeline.latency.summary()


def run_clip(detector: Path, classifier: Path | None, clip: Path, *, readers: str) -> Any:
    """Run the program deploy.run on the clip, by so many readers; return its statistics."""
    with tempfile.TemporaryDirectory() as place:
        stats = Path(place) / "stats.json"
        words = ["--source", str(clip), "--sink", str(Path(place) / "events.jsonl")]
        words += ["--detector", str(detector), "--runtime", "tensorrt", "--readers", readers]
        words += ["--no-gesture"] if classifier is None else ["--gesture", str(classifier)]
        if run.main([*words, "--stats", str(stats)]) != 0:
            raise DeployError("deploy.run failed, see above")
        return json.loads(stats.read_text())
