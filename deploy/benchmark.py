"""Measure how fast this machine runs the models, as JSON on standard output.

    python -m deploy.benchmark [--source clip.mp4] [--frames 200]

Each network alone (batch 1, and the classifier also with 2 and 4 hands), and every step of the
runtime on the frames of the source, decoded before and repeated as needed; without a source the
frames are noise, on which the steps behind the detector have nothing to do. A TensorRT engine is
also timed by CUDA events: the network alone, and with its copies. The JSON says in which power
mode and at which clocks the board was, before and after.
"""

import argparse
import itertools
import json
import logging
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from deploy.board import describe_board
from deploy.core.errors import UserError
from deploy.latency import Latency, summarize
from deploy.machine import describe_machine
from deploy.options import add_engine_arguments, open_engines, positive
from deploy.pipeline import Pipeline
from deploy.source import DEFAULT_FPS, Frame, open_source, quiet_opencv

WARM_UP = 10
NOISE_WH = (1280, 720)
NOISE_FRAMES = 4
# Decoded frames that are kept in memory (2.8 MB each at 1280x720).
KEPT_FRAMES = 60
BATCHES = {"detector": (1,), "gesture": (1, 2, 4)}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    quiet_opencv()
    try:
        images = _load_images(args.source)
        with open_engines(args) as engines:
            document = benchmark(engines, images, num_frames=args.frames, warm_up=args.warm_up)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    document["source"] = args.source
    print(json.dumps(document, indent=1))
    return 0


def benchmark(
    engines: Mapping[str, Any],
    images: Sequence[np.ndarray],
    *,
    num_frames: int,
    warm_up: int = WARM_UP,
) -> Dict[str, Any]:
    """Measure engines ("detector", perhaps "gesture") alone and together on images in turn."""
    board = describe_board()
    networks = {
        f"{name} batch {batch}": measure_engine(
            engine, batch=batch, warm_up=warm_up, repeats=num_frames
        )
        for name, engine in engines.items()
        for batch in BATCHES[name]
    }
    document: Dict[str, Any] = {
        "machine": describe_machine(),
        "board": {"before": board},
        "engines": {name: engine.info() for name, engine in engines.items()},
        "image_wh": [images[0].shape[1], images[0].shape[0]],
        "networks": networks,
        "steps": measure_steps(engines, images, num_frames=num_frames, warm_up=warm_up),
        "gpu": {
            name: measure_gpu(engine, warm_up=warm_up, repeats=num_frames)
            for name, engine in engines.items()
            if hasattr(engine, "time_gpu")
        },
    }
    document["board"]["after"] = describe_board()
    return document


def measure_engine(engine: Any, *, batch: int, warm_up: int, repeats: int) -> Dict[str, float]:
    """Return the percentiles of an engine's inference on noise, in milliseconds."""
    shape = (batch,) + tuple(engine.model.input_shape)
    tensor = np.random.RandomState(0).uniform(0, 1, shape).astype(np.float32)
    for _ in range(warm_up):
        engine.infer(tensor)
    samples: List[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        engine.infer(tensor)
        samples.append((time.perf_counter() - started) * 1e3)
    return summarize(samples)


def measure_gpu(engine: Any, *, warm_up: int, repeats: int) -> Dict[str, Dict[str, float]]:
    """Return the percentiles at batch 1 by CUDA events; nothing for an engine without a GPU."""
    times = engine.time_gpu(batch=1, warm_up=warm_up, repeats=repeats)
    return {name: summarize(values) for name, values in times.items()}


def measure_steps(
    engines: Mapping[str, Any], images: Sequence[np.ndarray], *, num_frames: int, warm_up: int
) -> Dict[str, Dict[str, float]]:
    """Return the percentiles of each step of the runtime and of its "total", without decoding."""
    pipeline = Pipeline(engines["detector"], engines.get("gesture"))
    for index, image in enumerate(itertools.islice(itertools.cycle(images), warm_up + num_frames)):
        if index == warm_up:
            pipeline.latency = Latency()
        pipeline.process(Frame(image, index, index / DEFAULT_FPS, time.perf_counter()))
    summary = pipeline.latency.summary()
    del summary["decode"]
    return summary


def _load_images(uri: Optional[str]) -> List[np.ndarray]:
    if uri is None:
        shape = (NOISE_FRAMES, NOISE_WH[1], NOISE_WH[0], 3)
        return list(np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8))
    with open_source(uri) as source:
        return [frame.image for frame in itertools.islice(source.frames(), KEPT_FRAMES)]


def _parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m deploy.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", metavar="URI", help="video, folder or camera (default: noise)")
    add_engine_arguments(parser)
    parser.add_argument("--frames", type=positive(int), default=200, metavar="N")
    parser.add_argument("--warm-up", type=positive(int), default=WARM_UP, metavar="N")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
