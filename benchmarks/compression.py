"""How much faster the compressed detector is than the unpruned one, on this processor.

Run: python -m benchmarks.compression --train models/train --export models/export [--threads 2]
(a minute at 960x544). Both networks in each runtime and precision that is installed, batch 1, on
noise, in rounds in turn, so that a busy moment hits all of them. Prints a Markdown table of
medians and how many times as fast as the unpruned network in FP32 in ONNX Runtime; --out FILE gets
the machine and all percentiles as JSON. On Linux --threads also pins the process to as many
processors.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deploy.benchmark import measure_engine
from deploy.core.model_json import read_model_json, write_model_json
from deploy.engine import Engine, available_precisions, installed_runtimes, open_engine
from deploy.machine import available_cpus, describe_machine
from stages.detectnet.checkpoint import detector_info, load_float_model

FILE = "detector.onnx"
REFERENCE = ("unpruned", "onnxruntime", "fp32")
Key = tuple[str, str, str]  # network, runtime, precision


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    args = parse_arguments(argv)
    pin_process(args.threads)
    with tempfile.TemporaryDirectory() as unpruned, contextlib.ExitStack() as stack:
        export_unpruned(args.train, args.export, Path(unpruned))
        engines = dict(
            open_all({"unpruned": Path(unpruned), "pruned": args.export}, args.threads, stack)
        )
        percentiles = measure(engines, rounds=args.rounds, repeats=args.repeats)
    sys.stdout.write(format_table(percentiles))
    if args.out is not None:
        rows = [
            {"network": key[0], "runtime": key[1], "precision": key[2], "rounds": rounds}
            for key, rounds in percentiles.items()
        ]
        document = {"machine": describe_machine(), "threads": args.threads, "rows": rows}
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.compression",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", type=Path, required=True, help="models/train")
    parser.add_argument("--export", type=Path, required=True, help="models/export")
    parser.add_argument("--threads", type=int, default=min(2, available_cpus()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10, help="inferences per round")
    parser.add_argument("--out", type=Path, help="JSON")
    return parser.parse_args(argv)


def pin_process(threads: int) -> None:
    """Keep this process on the first processors that it may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def export_unpruned(trained: Path, exported: Path, folder: Path) -> None:
    """Write the network before pruning as a model folder with an FP32 file alone."""
    import onnx

    from stages.detectnet.onnx_export import FLOAT_OPSET, export_onnx

    model = load_float_model(trained)
    onnx.save(export_onnx(model, opset=FLOAT_OPSET), folder / FILE)
    postprocess = read_model_json(exported).postprocess
    assert postprocess is not None  # model.json's schema wants one for detectors
    info = detector_info(folder, model.architecture, {"fp32": FILE}, postprocess)
    write_model_json(folder, info)


def open_all(
    folders: Mapping[str, Path], threads: int, stack: contextlib.ExitStack
) -> Iterator[tuple[Key, Engine]]:
    """Open every network in every runtime and precision; the stack closes them."""
    for network, folder in folders.items():
        model = read_model_json(folder)
        for runtime in sorted(installed_runtimes()):
            for precision in available_precisions(model, runtime):
                opened = open_engine(folder, runtime=runtime, precision=precision, threads=threads)
                yield (network, runtime, precision), stack.enter_context(opened)


def measure(
    engines: Mapping[Key, Engine], *, rounds: int, repeats: int
) -> dict[Key, list[dict[str, float]]]:
    """Return the percentiles of each round, in milliseconds, of each engine."""
    percentiles: dict[Key, list[dict[str, float]]] = {key: [] for key in engines}
    for _ in tqdm(range(rounds), unit="round", disable=None):
        for key, engine in engines.items():
            percentiles[key].append(measure_engine(engine, batch=1, warm_up=2, repeats=repeats))
    return percentiles


def format_table(percentiles: Mapping[Key, Sequence[Mapping[str, Any]]]) -> str:
    """Write a row per engine: median of the rounds' medians, least and largest, and the ratio."""
    medians = {key: sorted(row["p50_ms"] for row in rows) for key, rows in percentiles.items()}
    reference = medians.get(REFERENCE)
    lines = ["| network | runtime | precision | ms (least to largest round) | times as fast |"]
    lines.append("|---|---|---|---|---:|")
    for key, values in medians.items():
        middle = values[len(values) // 2]
        ratio = f"{reference[len(reference) // 2] / middle:.1f}" if reference else "-"
        times = f"{middle:.1f} ({values[0]:.1f} to {values[-1]:.1f})"
        lines.append(f"| {' | '.join(key)} | {times} | {ratio} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
