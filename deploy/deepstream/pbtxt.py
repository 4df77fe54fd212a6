"""Protobuf text format, as much of it as nvinferserver and Triton configurations use.

`write_message` prints a list of (name, value) pairs; `parse_message` reads any such file into
fields with their line. Grammar: https://protobuf.dev/reference/protobuf/textformat-spec/ (without
extensions, Any and string concatenation).
"""

import json
import re
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

from deploy.core.errors import DeployError

TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+|#[^\n]*)|(?P<line>\n)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?f?)"
    r"|(?P<mark>[{}\[\]<>:,;])"
)


class Word(str):
    """An enum's or bool's word, written without quotes."""


class Field(NamedTuple):
    """A field as it stands in a file: value is a list of Field, or a token's kind and text."""

    name: str
    value: Any
    line: int


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def write_message(fields: Sequence[Tuple[str, Any]], indent: int = 0) -> str:
    """Return the text of a message.

    A value is a number, bool, str (quoted), Word (bare), list of numbers or Words ("[1, 2]"), or a
    list of pairs, which is a message. A name may come again: that is a repeated field.
    """
    lines = []
    blank = "  " * indent
    for name, value in fields:
        if isinstance(value, list) and (not value or isinstance(value[0], tuple)):
            body = write_message(value, indent + 1)
            lines.append(f"{blank}{name} {{\n{body}{blank}}}\n")
        elif isinstance(value, list):
            lines.append(f"{blank}{name}: [{', '.join(_scalar(item) for item in value)}]\n")
        else:
            lines.append(f"{blank}{name}: {_scalar(value)}\n")
    return "".join(lines)


def parse_message(text: str, *, source: str) -> List[Field]:
    """Return the fields of a file. Raises DeployError with file and line for what is no pbtxt."""
    tokens = list(_tokens(text, source))
    fields, end = _fields(tokens, 0, "", source)
    if end != len(tokens):
        raise _wrong(tokens[end], source)
    return fields


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value)
    return repr(value)


def _tokens(text: str, source: str) -> Iterator[_Token]:
    line, position = 1, 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise DeployError(f"{source}:{line}: {text[position]!r} is not protobuf text format")
        kind = str(match.lastgroup)
        if kind == "line":
            line += 1
        elif kind != "blank":
            yield _Token(kind, match.group(), line)
        position = match.end()


def _fields(
    tokens: Sequence[_Token], position: int, end: str, source: str
) -> Tuple[List[Field], int]:
    """Read fields up to the mark that ends their message; return them and what comes after."""
    fields: List[Field] = []
    while position < len(tokens):
        token = tokens[position]
        if token.text == end:
            return fields, position + 1
        if token.kind != "word":
            raise _wrong(token, source)
        found, position = _field(tokens, position, source)
        fields += found
        if position < len(tokens) and tokens[position].text in (",", ";"):
            position += 1
    if end:
        raise DeployError(f"{source}:{tokens[-1].line}: the file ends before {end!r}; add it")
    return fields, position


def _field(tokens: Sequence[_Token], position: int, source: str) -> Tuple[List[Field], int]:
    name = tokens[position]
    position += 1
    if _text(tokens, position, source) == ":":
        position += 1
    if _text(tokens, position, source) != "[":
        value, position = _value(tokens, position, source)
        return [Field(name.text, value, name.line)], position
    fields = []
    position += 1
    while _text(tokens, position, source) != "]":
        line = tokens[position].line
        value, position = _value(tokens, position, source)
        fields.append(Field(name.text, value, line))
        if _text(tokens, position, source) == ",":
            position += 1
    return fields, position + 1


def _value(tokens: Sequence[_Token], position: int, source: str) -> Tuple[Any, int]:
    token = tokens[position]
    if token.text in ("{", "<"):
        return _fields(tokens, position + 1, {"{": "}", "<": ">"}[token.text], source)
    if token.kind == "mark":
        raise _wrong(token, source)
    return (token.kind, token.text), position + 1


def _text(tokens: Sequence[_Token], position: int, source: str) -> str:
    if position >= len(tokens):
        raise DeployError(f"{source}:{tokens[-1].line}: the file ends inside a field; complete it")
    return tokens[position].text


def _wrong(token: _Token, source: str) -> DeployError:
    return DeployError(f"{source}:{token.line}: {token.text!r} is not expected here; remove it")
