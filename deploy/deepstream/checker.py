"""Find keys that a release of DeepStream does not accept; DeepStream itself only warns of them.

Reads deepstream-app and nvinfer files (GKeyFile), nvinferserver and Triton files (protobuf text).
Which is which is told by the content.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from deploy.core.errors import DeployError
from deploy.deepstream.app_config import UNIFIED_TRACKER
from deploy.deepstream.keys import REPLACEMENTS, key_history, known_keys, load_document
from deploy.deepstream.pbtxt import Field, parse_message
from deploy.deepstream.versions import DeepStream, parse_number

SUFFIXES = (".txt", ".pbtxt", ".config", ".cfg")
NUMBERED = ("source", "sink", "message-consumer", "dewarper", "replay")
ALIASES = {"primary-gie": "gie", "secondary-gie": "gie", "secondary-pre-process": "pre-process"}
COLOR_KEY = re.compile(r"bbox-(border|bg)-color *\d+$")
INI_GROUP = re.compile(r"\[([^\]]+)\]$")
OLD_TRACKERS = ("libnvds_mot_klt.so", "libnvds_mot_iou.so", "libnvds_nvdcf.so")
KINDS = {"number": ("int", "float"), "string": ("string",)}


class Problem(NamedTuple):
    """What a release refuses, and where; message holds the next step."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return path:line: message."""
        return f"{self.path}:{self.line}: {self.message}"


def check_folder(folder: Path, release: DeepStream) -> Tuple[int, List[Problem]]:
    """Check all configurations in a folder, at any depth; return how many, and what is wrong.

    Raises DeployError for a folder without any, and for a file that cannot be parsed.
    """
    if not folder.is_dir():
        raise DeployError(f"{folder}: no such folder; expected one with configurations")
    num_files, problems = 0, []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file()):
        found = check_text(_read(path), str(path.relative_to(folder)), release)
        if found is not None:
            num_files += 1
            problems += found
    if not num_files:
        raise DeployError(f"{folder}: no configuration of DeepStream or Triton in it")
    return num_files, problems


def check_text(text: str, name: str, release: DeepStream) -> Optional[List[Problem]]:
    """Check one file's text; return None when it is no configuration (labels, for example)."""
    if re.search(r"^\s*\[[\w-]+\]\s*$", text, re.MULTILINE):
        return list(_check_ini(text, name, release))
    document = load_document()
    if re.search(r"^\s*infer_config\b", text, re.MULTILINE):
        schema = _messages_of(document["nvinferserver"], release)
        return list(
            _check_message(parse_message(text, source=name), "PluginControl", schema, name, "")
        )
    if re.search(r"^\s*(platform|backend)\s*:", text, re.MULTILINE):
        schema = _Schema(document["triton"]["messages"], {}, "Triton")
        return list(
            _check_message(parse_message(text, source=name), "ModelConfig", schema, name, "")
        )
    return None


class _Schema(NamedTuple):
    """messages: kind of each field by message and name; absent: since when, of fields too new."""

    messages: Dict[str, Dict[str, str]]
    absent: Dict[str, str]
    title: str


def _messages_of(document: Dict[str, Any], release: DeepStream) -> _Schema:
    absent = {
        field: version
        for field, version in document["since"].items()
        if parse_number(version) > release.number
    }
    return _Schema(document["messages"], absent, f"DeepStream {release.version}")


def _check_message(
    fields: Sequence[Field], message: str, schema: _Schema, name: str, place: str
) -> Iterator[Problem]:
    known = schema.messages[message]
    for field in fields:
        where = f"{place}{field.name}"
        kind = known.get(field.name)
        since = schema.absent.get(f"{message}.{field.name}")
        if kind is None:
            names = ", ".join(sorted(known))
            yield Problem(name, field.line, f"unknown field {where} of {message}; known: {names}")
        elif since is not None:
            hint = "; write trt_is" if field.name == "triton" else "; remove it"
            text = f"{where} came with DeepStream {since}, {schema.title} has no such field{hint}"
            yield Problem(name, field.line, text)
        elif kind in schema.messages:
            if isinstance(field.value, list):
                yield from _check_message(field.value, kind, schema, name, where + ".")
            else:
                yield Problem(name, field.line, f"{where} is a message; write {field.name} {{ }}")
        else:
            yield from _check_value(field, kind, name, where)


def _check_value(field: Field, kind: str, name: str, where: str) -> Iterator[Problem]:
    if isinstance(field.value, list):
        yield Problem(name, field.line, f"{where} is no message; write {field.name}: value")
        return
    seen, text = field.value
    if kind.startswith("enum "):
        words = kind.split()[1:]
        if text not in words and seen != "number":
            yield Problem(name, field.line, f"{where} is {text}; known: {', '.join(words)}")
    elif kind == "bool":
        if text not in ("true", "false", "0", "1"):
            yield Problem(name, field.line, f"{where} is {text}; expected true or false")
    elif kind not in KINDS.get(seen, ()) or (kind == "int" and not re.match(r"-?\d+$", text)):
        yield Problem(name, field.line, f"{where} is {text}; expected {kind}")


def _check_ini(text: str, name: str, release: DeepStream) -> Iterator[Problem]:
    knowledge = known_keys(release.number)
    group: Optional[str] = None
    seen: Dict[Tuple[str, str], int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        opened = INI_GROUP.match(line)
        if opened:
            title = opened.group(1)
            group = _group_of(title)
            if group not in knowledge.keys:
                yield Problem(name, number, _unknown_group(title, sorted(knowledge.keys), release))
            continue
        if "=" not in line or group is None:
            yield Problem(name, number, f"{line!r} is not key=value in a group; mend the line")
            continue
        key, value = (part.strip() for part in line.split("=", 1))
        if (title, key) in seen:
            yield Problem(
                name, number, f"[{title}] {key} is given in line {seen[title, key]} already"
            )
        seen[title, key] = number
        message = _key_problem(group, title, key, knowledge.keys, release)
        message = message or _value_problem(group, key, value, release)
        if message:
            yield Problem(name, number, message)


def _key_problem(
    group: str, title: str, key: str, keys: Any, release: DeepStream
) -> Optional[str]:
    if group not in keys:
        return None
    if key not in keys[group] and not (group == "gie" and COLOR_KEY.match(key)):
        return _unknown_key(group, title, key, keys[group], release)
    return None


def _value_problem(group: str, key: str, value: str, release: DeepStream) -> Optional[str]:
    """Name a tracker's library that is gone: with it the pipeline does not start."""
    library = value.rsplit("/", 1)[-1]
    is_old = (group, key) == ("tracker", "ll-lib-file") and library in OLD_TRACKERS
    if not is_old or release.number < UNIFIED_TRACKER:
        return None
    return (
        f"[tracker] {library} was removed by DeepStream 6.0; instead: "
        "libnvds_nvmultiobjecttracker.so with ll-config-file=config_tracker_IOU.yml"
    )


def _unknown_key(group: str, title: str, key: str, known: Any, release: DeepStream) -> str:
    first, last = key_history(group, key)
    if first is None:
        names = ", ".join(sorted(known))
        return f"[{title}] {key} is unknown in DeepStream {release.version}; known: {names}"
    if last is not None and parse_number(last) <= release.number:
        step = REPLACEMENTS.get((group, key), "remove it")
        return f"[{title}] {key} was removed by DeepStream {last}; instead: {step}"
    if last is not None and parse_number(first) <= release.number:
        step = REPLACEMENTS.get((group, key), "remove it")
        return (
            f"[{title}] {key} is gone in DeepStream {last} and not confirmed for "
            f"{release.version}; instead: {step}"
        )
    return (
        f"[{title}] {key} is confirmed from DeepStream {first} on, not for {release.version}; "
        "remove it"
    )


def _unknown_group(title: str, known: Sequence[str], release: DeepStream) -> str:
    names = ", ".join(known)
    return f"group [{title}] is unknown in DeepStream {release.version}; known: {names}"


def _group_of(title: str) -> str:
    if title.startswith("class-attrs-"):
        return "class-attrs"
    base = title.rstrip("0123456789")
    if base in ALIASES:
        return ALIASES[base]
    return base if base in NUMBERED else title


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{path}: cannot be read as text: {error}; save it as UTF-8") from None
