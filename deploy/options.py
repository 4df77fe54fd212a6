"""Options that the programs share, and the engines that they ask for."""

import argparse
import contextlib
import logging
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.engine import (
    AUTO,
    PRECISIONS,
    RUNTIMES,
    TENSORRT,
    Engine,
    available_precisions,
    open_engine,
)
from deploy.models import Choice, choose_engine, find_classifier, find_detector
from deploy.tensorrt_plan import BUILD_PRECISIONS
from deploy.tensorrt_record import find_engine, rebuild_command

LOGGER = logging.getLogger(__name__)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name models, runtime and precision."""
    parser.add_argument("--detector", metavar="DIR", help="model folder (default: beside deploy/)")
    parser.add_argument("--gesture", metavar="DIR", help="model folder (default: beside deploy/)")
    parser.add_argument("--no-gesture", action="store_true", help="only find hands")
    parser.add_argument("--runtime", choices=(AUTO,) + RUNTIMES, default=AUTO)
    parser.add_argument("--precision", choices=(AUTO,) + PRECISIONS, default=AUTO)
    parser.add_argument(
        "--build",
        action="store_true",
        help="first build the TensorRT engines that are missing or do not fit this device",
    )
    parser.add_argument(
        "--engine", metavar="URI", help="a Triton server instead: triton://HOST:8001"
    )


@contextlib.contextmanager
def open_engines(args: argparse.Namespace) -> Iterator[Dict[str, Engine]]:
    """Open "detector", and "gesture" where there is one, both warmed up, as the options say.

    The classifier takes the detector's runtime, and its precision where it has that too.
    Raises DeployError as deploy.engine.open_engine does.
    """
    detector = find_detector(args.detector)
    classifier = None if args.no_gesture else find_classifier(args.gesture)
    with contextlib.ExitStack() as stack:
        if getattr(args, "engine", None) is not None:
            engines = _open_on_server(stack, args, detector, classifier)
        else:
            engines = _open_here(stack, args, detector, classifier)
        for engine in engines.values():
            engine.infer(np.zeros((1,) + tuple(engine.model.input_shape), np.float32))
        yield engines


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a type for argparse: `kind`, and greater than 0."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return parse


def _open_here(
    stack: contextlib.ExitStack,
    args: argparse.Namespace,
    detector: Path,
    classifier: Optional[Path],
) -> Dict[str, Engine]:
    if getattr(args, "build", False):
        _build_engines(args, detector, classifier)
    choice = choose_engine(detector, runtime=args.runtime, precision=args.precision)
    if args.runtime == AUTO and choice.runtime == TENSORRT and not _is_built(detector, choice):
        choice = Choice(AUTO, AUTO)
    engines = {"detector": stack.enter_context(open_engine(detector, **choice._asdict()))}
    if classifier is not None:
        runtime = engines["detector"].plan.runtime
        precision = _usable_precision(classifier, engines["detector"])
        engines["gesture"] = stack.enter_context(
            open_engine(classifier, runtime=runtime, precision=precision)
        )
    return engines


def _open_on_server(
    stack: contextlib.ExitStack,
    args: argparse.Namespace,
    detector: Path,
    classifier: Optional[Path],
) -> Dict[str, Engine]:
    from deploy.engine_triton import open_triton_engine

    if (args.runtime, args.precision) != (AUTO, AUTO):
        raise DeployError("--engine takes no --runtime or --precision; the server has chosen")
    uri = args.engine
    engines = {"detector": stack.enter_context(open_triton_engine(detector, uri))}
    if classifier is not None:
        engines["gesture"] = stack.enter_context(open_triton_engine(classifier, uri))
    return engines


def _is_built(detector: Path, choice: Choice) -> bool:
    """Whether the measured TensorRT engine is in this copy of the model folder."""
    if find_engine(detector, choice.precision) is not None:
        return True
    LOGGER.info("no %s engine is built here: %s", choice.precision, rebuild_command(detector))
    return False


def _build_engines(args: argparse.Namespace, detector: Path, classifier: Optional[Path]) -> None:
    from deploy.build import BuildOptions, ensure_engine

    if args.runtime not in (AUTO, TENSORRT):
        raise DeployError(f"--build makes TensorRT engines, not for --runtime {args.runtime}")
    if args.precision not in (AUTO,) + BUILD_PRECISIONS:
        raise DeployError(f"--build makes {', '.join(BUILD_PRECISIONS)}, not {args.precision}")
    args.runtime = TENSORRT
    ensure_engine(detector, BuildOptions(precision=args.precision))
    if classifier is not None:
        ensure_engine(classifier, BuildOptions())


def _usable_precision(classifier: Path, detector: Engine) -> str:
    precision = detector.plan.precision
    if detector.plan.runtime == TENSORRT:
        return AUTO  # what was built of it
    usable = available_precisions(read_model_json(classifier), detector.plan.runtime)
    return precision if precision in usable else AUTO
