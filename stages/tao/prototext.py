"""Protobuf's text format, written from plain values.

A message is a mapping. A value is a number, a bool, text, an enum's name (`Name`), a message, or a
list of these for a repeated field. Source: protobuf.dev/reference/protobuf/textformat-spec.
"""

from collections.abc import Iterator, Mapping
from typing import Any

INDENT = "  "


class Name(str):
    """The name of an enum's value, written without quotes."""


def render(message: Mapping[str, Any]) -> str:
    """Return the text of a message; fields keep their order, None is left out.

    Raises ValueError for text with a line break and for a number that is not finite.
    """
    return "\n".join(_lines(message, "")) + "\n"


def keyed(key: str, value: Any) -> dict[str, Any]:
    """Return one entry of a map field."""
    return {"key": key, "value": value}


def _lines(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for field, content in message.items():
        for value in content if isinstance(content, list) else [content]:
            if isinstance(value, Mapping):
                yield f"{indent}{field} {{"
                yield from _lines(value, indent + INDENT)
                yield f"{indent}}}"
            elif value is not None:
                yield f"{indent}{field}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if not value.isprintable():
            raise ValueError(f"{value!r} cannot stand in a spec; expected printable text")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if not -float("inf") < value < float("inf"):
        raise ValueError(f"{value} cannot stand in a spec; expected a finite number")
    return repr(value)
