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
those in expected.json, where there are labelled frames; GPU time and copies by CUDA events; both
APIs where this TensorRT has both. Then the kernel against the CPU, the loop of deploy.run on
DIR/clip.mp4 with each detector, and what bad input is answered with.

Engines are built first, --processes at a time, and measured after that, alone. What is measured is
at once in DIR/tensorrt_gpu.json; a second run with the same DIR goes on where the first was cut:
built engines and rows without an error are kept (all four variants of three networks take about
ten minutes). --models, --variants and --parts choose.
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

from benchmarks.tensorrt_gpu_builds import (
    VARIANTS,
    Job,
    build_engines,
    built_folder,
    find_lack,
)
from benchmarks.tensorrt_gpu_checks import compare_apis, compare_kernel, provoke
from benchmarks.tensorrt_gpu_loop import list_loops
from deploy.benchmark import measure_engine
from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.engine import Engine, open_engine
from deploy.evaluation import evaluate_model
from deploy.frames import Frame, find_frames
from deploy.latency import summarize
from deploy.reference import compare, find_fault, read_reference, sample_batch
from deploy.tensorrt_record import ENGINE_NAME, engine_folder, find_engine, read_record

WARM_UP = 20
PARTS = ("models", "kernel", "loops", "bad_input")


def main() -> int:
    """Measure everything; print JSON. What fails stands in it as `error`."""
    args = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    started = time.perf_counter()
    document = Document(args.folder / "tensorrt_gpu.json")
    folders = sorted((p.parent for p in (args.folder / "models").glob("*/model.json")), key=rank)
    folders = [f for f in folders if not args.models or f.name in args.models]
    jobs = [Job(f, v) for v in VARIANTS for f in folders if v.name in args.variants]
    if "models" in args.parts:
        measure_models(args, jobs, document, started)
    built = [job for job in jobs if find_engine(built_folder(job), "auto") is not None]
    if "kernel" in args.parts and not document.has("kernel"):
        show("kernel", started)
        document.put(guarded(compare_kernel, first_of_each(built)), "kernel")
    if "loops" in args.parts:
        for name, loop in list_loops(built, args.folder / "clip.mp4", args.repeats).items():
            if not document.has("loops", name):
                show(f"loop {name}", started)
                document.put(guarded(loop), "loops", name)
    if "bad_input" in args.parts and not document.has("bad_input"):
        show("bad input", started)
        document.put(guarded(provoke, first_of_each(built)[0]), "bad_input")
    document.put(round(time.perf_counter() - started, 1), "seconds")
    print(document.text())
    return 0


class Document:
    """What is measured so far, in a file that is written at each step."""

    def __init__(self, path: Path) -> None:
        """Take up what an earlier run has left."""
        self._path = path
        self._values: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def has(self, *keys: str) -> bool:
        """Whether there is a value, and it is no error."""
        value: Any = self._values
        for key in keys:
            value = value.get(key, {"error": "not measured"})
        return "error" not in value

    def put(self, value: Any, *keys: str) -> None:
        """Write a value below nested keys."""
        place = self._values
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
        self._path.write_text(self.text() + "\n")

    def text(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self._values, indent=1)


def measure_models(
    args: argparse.Namespace, jobs: list[Job], document: Document, started: float
) -> None:
    """Build all engines, then measure one after another."""
    frames = list_frames(args.folder, limit=args.frames)
    expected_path = args.folder / "expected.json"
    expected = json.loads(expected_path.read_text()) if expected_path.is_file() else {}
    wanted = [job for job in jobs if not document.has("models", job.model.name, job.variant.name)]
    errors = {job: find_lack(job) for job in wanted if find_lack(job)}
    show(f"builds {len(wanted)} engines", started)
    errors.update(
        build_engines(
            [job for job in wanted if job not in errors],
            processes=args.processes,
            deadline_s=started + args.budget_s,
        )
    )
    for job in wanted:
        show(f"{job.model.name} {job.variant.name}", started)
        row = {"error": errors[job]} if job in errors else None
        if row is None:
            known = expected.get(job.model.name, {})
            row = guarded(measure_variant, job, frames, known, args.repeats)
        document.put(row, "models", job.model.name, job.variant.name)


def rank(folder: Path) -> tuple[bool, str]:
    """Order model folders: detectors first, by name."""
    return read_model_json(folder).kind != "detector", folder.name


def first_of_each(built: list[Job]) -> list[Path]:
    """Return the folder of one built engine of each model. Raises DeployError if there is none."""
    if not built:
        raise DeployError("no engine is built")
    return list({job.model: built_folder(job) for job in reversed(built)}.values())[::-1]


def measure_variant(
    job: Job, frames: list[Frame], expected: dict[str, Any], repeats: int
) -> dict[str, Any]:
    """Measure one built engine."""
    folder, precision = built_folder(job), job.variant.precision
    model = read_model_json(folder)
    with open_engine(folder, runtime="tensorrt", precision=precision) as engine:
        row = measure_answers(engine, folder, job.variant.role)
        row.update(measure_accuracy(engine, model, frames, expected))
        row.update(measure_times(engine, repeats))
    row["apis"] = compare_apis(folder, precision)
    place = engine_folder(folder, precision)
    row["build_seconds"] = read_record(place, folder).seconds
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
    """Average precision of a detector, and its difference from ONNX Runtime's where known: FP32's,
    and for INT8 those of its integer kernels and of the Q/DQ file in floating point."""
    if model.kind != "detector" or not frames:
        return {}
    metrics = evaluate_model(engine.infer, model, frames).metrics
    found: dict[str, Any] = {"ap": float(metrics.ap), "ap50": float(metrics.ap50)}
    for name in ("fp32", "int8", "int8_unfused"):
        if name in expected and (name == "fp32" or engine.plan.precision == "int8"):
            found[f"ap_less_{name}"] = found["ap"] - expected[name]["ap"]
            found[f"ap50_less_{name}"] = found["ap50"] - expected[name]["ap50"]
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
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--variants", nargs="*", default=names, choices=names)
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="builds at a time")
    parser.add_argument("--budget-s", type=float, default=400.0, metavar="S", help="for builds")
    parser.add_argument("--repeats", type=int, default=200, metavar="N")
    parser.add_argument("--frames", type=int, default=1000, metavar="N", help="for the AP")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
