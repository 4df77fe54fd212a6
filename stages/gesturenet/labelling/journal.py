"""What has been cut out so far: OUT/crops.jsonl, to which a line is added for each frame.

The first line names the tool, the classes and the settings that all crops of a folder share; then
come lines for sources and for frames with their crops. A frame's line follows its pictures, so
that a frame without a line is cut again and one with a line is whole. A half-written last line is
dropped.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from stages._files import atomic
from stages.gesturenet.errors import GestureError

FILE_NAME = "crops.jsonl"
PICTURES = "crops"
TOOL = "stages.gesturenet.label"
SCHEMA = 1


class Crop(NamedTuple):
    """One hand. box, roi: xyxy in pixels of the frame; suggestion: the classifier's, or None."""

    name: str
    box: tuple[float, ...]
    roi: tuple[float, ...]
    confidence: float
    suggestion: str | None
    suggestion_confidence: float | None


class Settings(NamedTuple):
    """What all crops of a folder share: classes, and by name what else decides their pixels."""

    classes: tuple[str, ...]
    values: Mapping[str, Any]


class Content(NamedTuple):
    """A read journal. sources: name by path; frames: crops by (source, frame), in order."""

    settings: Settings
    sources: dict[str, str]
    frames: dict[tuple[str, str], tuple[Crop, ...]]

    @property
    def crops(self) -> list[Crop]:
        """All crops in the order of their frames."""
        return [crop for crops in self.frames.values() for crop in crops]


class Journal:
    """An open journal: `content`, and methods that add to it and to the file."""

    def __init__(self, content: Content, stream: TextIO) -> None:
        self.content = content
        self._stream = stream

    def add_source(self, path: str, name: str) -> None:
        """Note the name of a source."""
        self._write({"source": name, "path": path})
        self.content.sources[path] = name

    def add_frame(self, source: str, frame: str, crops: Sequence[Crop]) -> None:
        """Note a frame whose pictures are written; it may hold no hand."""
        self._write({"of": source, "frame": frame, "crops": [crop._asdict() for crop in crops]})
        self.content.frames[source, frame] = tuple(crops)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write(_dump(line) + "\n")
        self._stream.flush()


def is_ours(out: Path) -> bool:
    """Say whether a folder is one of this tool's."""
    return (out / FILE_NAME).is_file()


@contextlib.contextmanager
def open_journal(out: Path, settings: Settings) -> Iterator[Journal]:
    """Start or go on with the journal of a folder; the block gets it, closed afterwards.

    Raises: GestureError for a folder that holds something else or crops of other settings.
    """
    content = _resume(out, settings) if is_ours(out) else _start(out, settings)
    with (out / FILE_NAME).open("a", encoding="utf-8") as stream:
        yield Journal(content, stream)


def read_journal(out: Path) -> Content:
    """Read the journal of a folder. Raises: GestureError where there is none, or a damaged one."""
    path = out / FILE_NAME
    if not path.is_file():
        raise GestureError(
            f"{out} holds no crops; make some: python -m {TOOL} --source clip.mp4 --out {out}"
        )
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # after the last \n: unfinished
    try:
        return parse_lines(lines)
    except (ValueError, KeyError, TypeError) as error:
        raise GestureError(
            f"{path} is damaged ({type(error).__name__}: {error}); remove it: the next run keeps "
            "the crops that are there and writes it anew"
        ) from None


def parse_lines(lines: Sequence[str]) -> Content:
    """Turn the whole lines of a journal into its content.

    Raises: ValueError, KeyError or TypeError for lines that this tool does not write.
    """
    if not lines:
        raise ValueError("no first line")
    head = json.loads(lines[0])
    if (head["tool"], head["schema"]) != (TOOL, SCHEMA):
        raise ValueError(f"written by {head['tool']} with schema {head['schema']}")
    content = Content(Settings(tuple(head["classes"]), head["settings"]), {}, {})
    for line in map(json.loads, lines[1:]):
        if "path" in line:
            content.sources[line["path"]] = line["source"]
        else:
            crops = tuple(_crop(crop) for crop in line["crops"])
            content.frames[line["of"], line["frame"]] = crops
    return content


def _start(out: Path, settings: Settings) -> Content:
    """Claim an empty or missing folder, or one whose journal alone was removed."""
    others = [path for path in sorted(out.iterdir()) if not _is_own(path)] if out.is_dir() else []
    if others or (out.exists() and not out.is_dir()):
        raise GestureError(
            f"{out} is not empty and not a folder of this tool"
            f"{f' (it holds {others[0].name})' if others else ''}; give another --out"
        )
    content = Content(settings, {}, {})
    _write_whole(out, content)
    return content


def _is_own(path: Path) -> bool:
    return path.name.startswith(".") or path.name in (PICTURES, "labels.json", "index.html")


def _resume(out: Path, settings: Settings) -> Content:
    """Read the journal, forget frames of which a picture is gone, and drop a half line.

    A folder without any crop starts anew, with whatever settings.
    """
    content = read_journal(out)
    if not content.crops:
        content = Content(settings, {}, {})
    if content.settings.classes != settings.classes:
        raise GestureError(
            f"{out} has the classes {', '.join(content.settings.classes)}, the model has "
            f"{', '.join(settings.classes)}; give another --out"
        )
    for name, value in _loaded(settings.values).items():
        earlier = content.settings.values.get(name)
        if earlier != value:
            raise GestureError(
                f"{out} was made with {name} {earlier}, now it is {value}; use what it was made "
                "with, or give another --out"
            )
    there = {path.name for path in (out / PICTURES).glob("*.jpg")}
    whole = {
        key: crops
        for key, crops in content.frames.items()
        if all(crop.name in there for crop in crops)
    }
    content = content._replace(frames=whole)
    _write_whole(out, content)
    return content


def _write_whole(out: Path, content: Content) -> None:
    classes, values = content.settings
    head = {"tool": TOOL, "schema": SCHEMA, "classes": classes, "settings": dict(values)}
    lines: list[Mapping[str, Any]] = [head]
    lines += [{"source": name, "path": path} for path, name in content.sources.items()]
    for (source, frame), crops in content.frames.items():
        lines.append({"of": source, "frame": frame, "crops": [crop._asdict() for crop in crops]})
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    with atomic(out / FILE_NAME, is_file=True) as aside:
        aside.write_text("".join(_dump(line) + "\n" for line in lines), encoding="utf-8")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _loaded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they come back from JSON: lists for tuples."""
    return json.loads(json.dumps(dict(values)))


def _crop(line: Mapping[str, Any]) -> Crop:
    return Crop(**{**line, "box": tuple(line["box"]), "roi": tuple(line["roi"])})
