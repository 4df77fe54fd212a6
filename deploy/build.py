"""Build TensorRT engines of the models on the device where they run, and check them.

    python -m deploy.build                         both models beside deploy/
    python -m deploy.build --model DIR --precision fp16 --batch 2

writes DIR/tensorrt/PRECISION/model.engine and engine.json, after comparing the engine's answers
with ONNX Runtime's, or with those in DIR/reference.npz. "auto" takes INT8 where device and model
have it, else FP16, else FP32, and says why. A second build is faster: DIR/tensorrt/timing.cache.

An encrypted model (.etlt): run NVIDIA's converter as DIR/convert.md says, then this program takes
the converter's engine in as its own.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from deploy.core.errors import DeployError, UserError
from deploy.core.model_json import check_sha256, read_model_json
from deploy.models import find_classifier, find_detector
from deploy.options import positive
from deploy.reference import write_reference
from deploy.tensorrt_device import acquire, release
from deploy.tensorrt_make import (
    WORKSPACE_MB,
    BuildOptions,
    make_engine,
    take_in_engine,
    with_typed_file,
)
from deploy.tensorrt_plan import AUTO, BUILD_PRECISIONS, QUANTIZATIONS
from deploy.tensorrt_record import EngineRecord, engine_folder

LOGGER = logging.getLogger(__name__)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program; return 0, 1 for what a person can mend, or 2 for usage."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for model_dir in _model_folders(args.model):
            if args.write_reference:
                model = read_model_json(model_dir)
                check_sha256(model_dir, model)
                sys.stderr.write(f"build: reference -> {write_reference(model_dir, model)}\n")
            else:
                _tell(build_model(model_dir, _options(args)), model_dir)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def build_model(model_dir: Path, options: BuildOptions) -> EngineRecord:
    """Build, check and put in place the engine of a model folder; return its engine.json.

    What lay there before stays until the new engine is whole. Raises DeployError, one line.
    """
    from deploy.engine_tensorrt import load_libraries

    model_dir = Path(model_dir)
    model = read_model_json(model_dir)
    check_sha256(model_dir, model)
    model = with_typed_file(model_dir, model)
    libraries = load_libraries()
    device = acquire(libraries.cuda)
    try:
        if model.is_encrypted:
            return take_in_engine(model_dir, model, libraries, device)
        return make_engine(model_dir, model, options, libraries, device)
    finally:
        release(device)


def ensure_engine(model_dir: Path, options: BuildOptions) -> None:
    """Build the engine of a model folder unless one that fits this device is there."""
    from deploy.engine_tensorrt import open_network

    try:
        network, _ = open_network(Path(model_dir), read_model_json(model_dir), options.precision)
    except DeployError as error:
        LOGGER.info("build: %s", error)
        _tell(build_model(Path(model_dir), options), Path(model_dir))
    else:
        network.close()


def _model_folders(given: Sequence[str]) -> List[Path]:
    if given:
        return [Path(folder) for folder in given]
    classifier = find_classifier(None)
    return [find_detector(None)] + ([] if classifier is None else [classifier])


def _tell(record: EngineRecord, model_dir: Path) -> None:
    checked = ", ".join(f"{name} {found['p99']:.2g}" for name, found in record.check.items())
    place = engine_folder(model_dir, record.precision, record.dla)
    sys.stderr.write(
        f"build: {record.precision} engine, TensorRT {record.tensorrt}, batch up to "
        f"{record.profile[2]}, {record.seconds:.1f} s, differences from {record.reference} (99th "
        f"percentile): {checked or 'not measured'} -> {place}\n"
    )


def _options(args: argparse.Namespace) -> BuildOptions:
    return BuildOptions(
        precision=args.precision,
        quantization=args.quantization,
        batch=args.batch,
        dla=args.dla,
        strict=args.strict,
        typed=args.strongly_typed,
        lean=args.tactics == "lean",
        workspace_mb=args.workspace_mb,
        unchecked=args.unchecked,
    )


def _parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m deploy.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", action="append", default=[], metavar="DIR", help="model folder; repeatable")
    add("--precision", choices=(AUTO,) + BUILD_PRECISIONS, default=AUTO)
    add(
        "--quantization",
        choices=(AUTO,) + QUANTIZATIONS,
        default=AUTO,
        help="where INT8 comes from: the calibration cache or the Q/DQ file (auto: the latter)",
    )
    add(
        "--batch",
        type=positive(int),
        metavar="N",
        help="largest batch (default: 1 for a detector, 4 for a classifier)",
    )
    add("--dla", type=int, metavar="N", help="build for this DLA core, GPU for what it cannot")
    add("--strict", action="store_true", help="fail instead of taking another precision")
    add("--strongly-typed", action="store_true", help="compute in the file's types (10 and later)")
    add(
        "--tactics",
        choices=("lean", "all"),
        default="lean",
        help="lean: without the kernels of cuDNN and cuBLAS, which take memory (8.5 and later)",
    )
    add("--workspace-mb", type=positive(int), default=WORKSPACE_MB, metavar="MB")
    add("--unchecked", action="store_true", help="do not compare with a reference")
    add("--write-reference", action="store_true", help="write DIR/reference.npz, build nothing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
