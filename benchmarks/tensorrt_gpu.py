"""Build, compare and time TensorRT engines on a GPU machine, without network; prints JSON.

1. Where the pipeline is installed, gather models, references and a clip in one folder (minutes):

       python -m benchmarks.tensorrt_models --out .work/tensorrt-gpu \\
           --random resnet18 resnet34 gesture

   or with trained models and labelled frames: see that module.
2. On the GPU machine, in a copy of the repository and with that folder, with a Python that has
   tensorrt, pycuda, numpy and OpenCV (TensorRT 8.5.3: /opt/trt85/python), and nvcc on PATH:

       /opt/trt85/python -m benchmarks.tensorrt_gpu .work/tensorrt-gpu > gpu.json

For each model folder below DIR/models: FP32, FP16 and INT8 (of the calibration cache, and of the
Q/DQ file) engines; difference from ONNX Runtime's answers in reference.npz; average precision less
that in expected.json, where there are labelled frames; GPU time and copies by CUDA events; both
APIs where this TensorRT has both. Then the kernel against the CPU, the loop of deploy.run on
DIR/clip.mp4 with each detector, and what bad input is answered with. New builds stop after
--budget-s; the whole takes less than 6 minutes with the default of 240. What was measured so far
is always in DIR/tensorrt_gpu.json too, in case TensorRT brings the process down.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.tensorrt_gpu_checks import compare_apis, compare_kernel, provoke
from benchmarks.tensorrt_gpu_loop import measure_loops
from deploy.benchmark import measure_engine
from deploy.build import build_model
from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.engine import Engine, open_engine
from deploy.evaluation import evaluate_model
from deploy.frames import Frame, find_frames
from deploy.latency import summarize
from deploy.reference import compare, find_fault, read_reference, sample_batch
from deploy.tensorrt_make import BuildOptions
from deploy.tensorrt_record import ENGINE_NAME, engine_folder

# Name, precision, where INT8 comes from, the role of the file that the reference answers of.
VARIANTS = (
    ("fp16", "fp16", "auto", "fp32"),
    ("int8_cache", "int8", "cache", "qdq"),
    ("int8_qdq", "int8", "qdq", "qdq"),
    ("fp32", "fp32", "auto", "fp32"),
)
WARM_UP = 20


def main() -> int:
    """Measure everything; print JSON. What fails stands in it as `error`."""
    args = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    started = time.perf_counter()
    folders = sorted((p.parent for p in (args.folder / "models").glob("*/model.json")), key=rank)
    frames = list_frames(args.folder, limit=args.frames)
    expected_path = args.folder / "expected.json"
    expected = json.loads(expected_path.read_text()) if expected_path.is_file() else {}
    document: dict[str, Any] = {"models": {}}
    for variant in VARIANTS:
        for folder in folders:
            row = document["models"].setdefault(folder.name, {})
            if time.perf_counter() - started > args.budget_s:
                row[variant[0]] = {"error": "left out, the time is over; raise --budget-s"}
                continue
            show(f"{folder.name} {variant[0]}", started)
            row[variant[0]] = guarded(
                measure_variant, folder, variant, frames, expected, args.repeats
            )
            save(document, args.folder)
    parts = {
        "kernel": (compare_kernel, folders),
        "loops": (measure_loops, folders, args.folder / "clip.mp4", args.repeats),
        "bad_input": (provoke, folders[0]),
    }
    for name, (function, *arguments) in parts.items():
        show(name, started)
        document[name] = guarded(function, *arguments)
        save(document, args.folder)
    document["seconds"] = round(time.perf_counter() - started, 1)
    print(save(document, args.folder))
    return 0


def rank(folder: Path) -> tuple[bool, str]:
    """Order model folders: detectors first, by name."""
    return read_model_json(folder).kind != "detector", folder.name


def save(document: dict[str, Any], folder: Path) -> str:
    """Write what is measured so far; return it as text."""
    text = json.dumps(document, indent=1)
    (folder / "tensorrt_gpu.json").write_text(text + "\n")
    return text


def measure_variant(
    folder: Path,
    variant: tuple[str, str, str, str],
    frames: list[Frame],
    expected: dict[str, Any],
    repeats: int,
) -> dict[str, Any]:
    """Build one engine of a model folder and measure it."""
    _, precision, quantization, role = variant
    model = read_model_json(folder)
    if role not in model.files or (quantization == "cache" and "calibration" not in model.files):
        return {"error": f"the folder has no file for it: {sorted(model.files)}"}
    options = BuildOptions(
        precision=precision, quantization=quantization, strict=True, unchecked=True
    )
    record = build_model(folder, options)
    with open_engine(folder, runtime="tensorrt", precision=precision) as engine:
        row = measure_answers(engine, folder, role)
        row.update(measure_accuracy(engine, model, frames, expected.get(folder.name, {})))
        row.update(measure_times(engine, repeats))
    row["apis"] = compare_apis(folder, precision)
    place = engine_folder(folder, precision)
    row["build_seconds"] = record.seconds
    row["engine_mb"] = round((place / ENGINE_NAME).stat().st_size / 1e6, 2)
    return row


def measure_answers(engine: Engine, folder: Path, role: str) -> dict[str, Any]:
    """Compare the sample frames' outputs with ONNX Runtime's, as deploy.build does."""
    model = engine.model
    reference = read_reference(folder / "reference.npz", model, role=role)
    differences = compare(engine.infer(sample_batch(model)), reference.outputs)
    fault = find_fault(differences, precision=engine.plan.precision)
    return {
        "info": engine.info(),
        "differences": differences,
        "within_tolerance": fault is None,
    }


def measure_accuracy(
    engine: Engine, model: ModelInfo, frames: list[Frame], expected: dict[str, Any]
) -> dict[str, Any]:
    """Average precision of a detector, and its difference from ONNX Runtime's where known."""
    if model.kind != "detector" or not frames:
        return {}
    metrics = evaluate_model(engine.infer, model, frames).metrics
    found: dict[str, Any] = {"ap": float(metrics.ap), "ap50": float(metrics.ap50)}
    reference = expected.get("int8" if engine.plan.precision == "int8" else "fp32")
    if reference is not None:
        found["ap_difference"] = found["ap"] - reference["ap"]
        found["ap50_difference"] = found["ap50"] - reference["ap50"]
    return found


def measure_times(engine: Engine, repeats: int) -> dict[str, Any]:
    """Time the network alone, with its copies, and as deploy calls it, at batch 1."""
    times = engine.time_gpu(batch=1, warm_up=WARM_UP, repeats=repeats)
    found = {f"{name}_ms": summarize(values) for name, values in times.items()}
    found["infer_ms"] = measure_engine(engine, batch=1, warm_up=WARM_UP, repeats=repeats)
    return found


def list_frames(folder: Path, *, limit: int) -> list[Frame]:
    """Return the labelled frames, or none where the folder has none."""
    if not (folder / "images").is_dir():
        return []
    frames = find_frames(folder / "images", folder / "labels", limit=limit)
    return frames if any(len(frame.truth) for frame in frames) else []


def guarded(function: Any, *arguments: Any) -> Any:
    """Return the function's value, or its error as text: one fault must not end the measurement.

    A bug's traceback goes to standard error.
    """
    try:
        return function(*arguments)
    except DeployError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"error": repr(error)}


def show(what: str, started: float) -> None:
    """Tell on standard error what is done now."""
    sys.stderr.write(f"{time.perf_counter() - started:6.1f} s  {what}\n")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tensorrt_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--budget-s", type=float, default=240.0, metavar="S")
    parser.add_argument("--repeats", type=int, default=200, metavar="N")
    parser.add_argument("--frames", type=int, default=60, metavar="N", help="for the AP")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
