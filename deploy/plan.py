"""What a run would do, without doing it (--dry-run): a line per part."""

import argparse
from typing import Iterator, List, Optional

from deploy.capture import LIVE, Decoder, source_kind, takes_readers
from deploy.core.commands import Command, CommandRule
from deploy.core.events import idle_indices
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.core.smoother import DEFAULT_RULE
from deploy.models import choose_engine, find_classifier, find_detector
from deploy.source import BACKOFF_S

WIDTH = 10


def describe_plan(args: argparse.Namespace, rule: Optional[CommandRule]) -> str:
    """Return the plan of deploy.run's arguments. Raises DeployError for what cannot run."""
    lines = [_line("source", _source(args))]
    lines += [_line("detector", text) for text in _detector(args)]
    lines += [_line("gesture", text) for text in _gesture(args)]
    lines += [_line("sink", uri) for uri in args.sink] or [_line("sink", "none")]
    if args.record:
        seconds = f"{args.record_seconds:g} s before and after every begin"
        lines.append(_line("record", f"{args.record}: {seconds}, the newest {args.record_keep}"))
    if rule is not None:
        lines += [_line("command", text) for text in _commands(rule)]
        lines += [_line("", f"to {uri}") for uri in args.command_sink]
    return "\n".join(lines) + "\n"


def _line(name: str, text: str) -> str:
    return f"{name:<{WIDTH}}{text}"


def _source(args: argparse.Namespace) -> str:
    kind = source_kind(args.source)
    text = f"{args.source} ({kind.value})"
    if kind not in LIVE:
        is_shared = takes_readers(args.source, kind, Decoder(args.decoder))
        readers = args.readers if is_shared else 1
        return f"{text}; no frame is dropped, readers: {readers}"
    first_s, longest_s = BACKOFF_S
    return (
        f"{text}; opened again after {first_s:g} to {longest_s:g} s, all is lost after "
        f"{args.deadline_ms:g} ms without a result, only the newest frame waits"
    )


def _detector(args: argparse.Namespace) -> Iterator[str]:
    folder = find_detector(args.detector)
    yield f"{folder}: {_network(read_model_json(folder))}"
    if args.engine is not None:
        yield f"on the server {args.engine}"
    else:
        choice = choose_engine(folder, runtime=args.runtime, precision=args.precision)
        yield f"runtime {choice.runtime}, precision {choice.precision}"


def _gesture(args: argparse.Namespace) -> Iterator[str]:
    folder = None if args.no_gesture else find_classifier(args.gesture)
    if folder is None:
        yield "none: hands are found, no events are sent"
        return
    model = read_model_json(folder)
    idle = idle_indices(model.classes)
    names = [name for index, name in enumerate(model.classes) if index not in idle]
    yield f"{folder}: {_network(model)}"
    yield f"{', '.join(names)}; each hand in one of {args.classify_every} frames"
    rule = DEFAULT_RULE
    yield (
        f"begins at {rule.enter_threshold:g} for {rule.min_hold_s:g} s, holds every "
        f"{rule.hold_interval_s:g} s, ends below {rule.exit_threshold:g}"
    )


def _network(model: ModelInfo) -> str:
    width, height = model.input_wh
    return f"{model.name}, {width}x{height}"


def _commands(rule: CommandRule) -> List[str]:
    safe = f"{_velocity(rule.safe)} after {rule.deadline_s * 1e3:g} ms without a fresh event"
    mapped = [f"{name} -> {_velocity(command)}" for name, command in rule.gestures.items()]
    return [*mapped, safe]


def _velocity(command: Command) -> str:
    return f"{command.name} ({command.linear:g} m/s, {command.angular:g} rad/s)"
