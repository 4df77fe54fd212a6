"""The command line of deploy.run."""

import argparse
import json
from pathlib import Path
from typing import Any, Optional, Sequence

from deploy.capture import Decoder
from deploy.config_file import config_arguments
from deploy.core.commands import CommandRule, parse_rule
from deploy.core.errors import DeployError
from deploy.core.model_json import read_model_json
from deploy.gstreamer import Flip, parse_size
from deploy.logs import FORMATS
from deploy.models import find_classifier
from deploy.options import add_engine_arguments, positive
from deploy.readers import AUTO, parse_readers
from deploy.recording import DEFAULT_KEEP, DEFAULT_SECONDS
from deploy.running import SOURCE_DEADLINE_S


def load_rule(args: argparse.Namespace) -> Optional[CommandRule]:
    """Read --commands, a file's name or the rule itself. Raises DeployError that names the key."""
    if bool(args.commands) != bool(args.command_sink):
        raise DeployError("--commands and --command-sink go together: what to tell, and whom")
    if not args.commands:
        return None
    folder = None if args.no_gesture else find_classifier(args.gesture)
    if folder is None:
        raise DeployError("--commands needs a gesture model; give one with --gesture DIR")
    classes = read_model_json(folder).classes
    try:
        is_inline = args.commands.lstrip().startswith("{")
        text = args.commands if is_inline else Path(args.commands).read_text(encoding="utf-8")
        return parse_rule(json.loads(text), classes=classes)
    except OSError as error:
        raise DeployError(f"commands {args.commands} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DeployError(f"commands: {error}; expected JSON") from None


def parse_arguments(argv: Sequence[str], *, description: str) -> argparse.Namespace:
    """Read the command line, and what --config adds to it. Raises DeployError for the latter."""
    parser = _make_parser(description)
    config = early_value(argv, "--config")
    if config is not None:
        argv = config_arguments(Path(config), parser, argv) + list(argv)
    return parser.parse_args(argv)


def early_value(argv: Sequence[str], option: str) -> Optional[str]:
    """Return the value of an option that is needed before the others can be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value", nargs="?")
    return parser.parse_known_args(list(argv))[0].value


def _make_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m deploy.run",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--source", required=True, metavar="URI", help="where frames come from")
    parser.add_argument(
        "--sink", action="append", default=[], metavar="URI", help="where results go; repeatable"
    )
    parser.add_argument("--config", metavar="FILE", help="these options from JSON or YAML")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and end")
    add_engine_arguments(parser)
    _add_source_arguments(parser)
    _add_result_arguments(parser)
    return parser


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("source")
    group.add_argument(
        "--fps", type=positive(float), help="frames/s: of a folder, or asked of a camera"
    )
    group.add_argument("--size", type=_size, metavar="WxH", help="asked of a camera: 1280x720")
    group.add_argument(
        "--flip",
        choices=[flip.value for flip in Flip],
        default=Flip.NONE.value,
        help="turn frames",
    )
    group.add_argument(
        "--decoder",
        choices=[decoder.value for decoder in Decoder],
        default=Decoder.AUTO.value,
        help="of files and rtsp; auto: a Jetson's own where it is there",
    )
    group.add_argument(
        "--readers",
        type=_readers,
        default=AUTO,
        metavar="N",
        help="of a video file, side by side: each decodes all of it and converts every N-th frame "
        "only (default: auto, 2 from 8 cores on, else 1)",
    )
    group.add_argument("--max-frames", type=positive(int), metavar="N", help="stop after N")
    group.add_argument(
        "--classify-every",
        type=positive(int),
        default=1,
        metavar="K",
        help="classify each hand in one of K frames only",
    )
    group.add_argument(
        "--deadline-ms",
        type=positive(float),
        default=SOURCE_DEADLINE_S * 1e3,
        metavar="MS",
        help="live: without a result for so long, all gestures are lost (default: %(default)g)",
    )


def _add_result_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument("--commands", metavar="FILE.json", help="robot command of each gesture")
    group.add_argument(
        "--command-sink", action="append", default=[], metavar="URI", help="where commands go"
    )
    group.add_argument("--record", metavar="FOLDER", help="a clip around every gesture's begin")
    group.add_argument(
        "--record-seconds",
        type=positive(float),
        default=DEFAULT_SECONDS,
        metavar="S",
        help="before and after the begin (default: %(default)g)",
    )
    group.add_argument(
        "--record-keep",
        type=positive(int),
        default=DEFAULT_KEEP,
        metavar="N",
        help="newest clips that stay (default: %(default)d)",
    )
    group.add_argument("--stats", metavar="FILE.json", help="write latency percentiles per step")
    group.add_argument("--log-format", choices=FORMATS, default=FORMATS[0])


def _readers(text: str) -> int:
    try:
        return parse_readers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> Any:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
