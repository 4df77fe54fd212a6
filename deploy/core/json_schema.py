"""Check a JSON value against a JSON Schema, with one message that a person can act on.

Only the words of draft 7 that model_schema.json uses are known (KEYWORDS); a schema with another
one is refused, so that a rule is never skipped in silence. Written because the device has no
jsonschema package.
"""

import re
from typing import Any, Dict, Iterator, List, Mapping

ANNOTATIONS = frozenset(["$schema", "title", "description", "definitions"])
ANY_VALUE = frozenset(["$ref", "type", "const", "enum", "allOf", "if", "then"])
OBJECTS = frozenset(["required", "properties", "minProperties", "additionalProperties"])
OTHERS = frozenset(["items", "minItems", "maxItems", "minLength", "pattern"])
NUMBERS = frozenset(["minimum", "maximum", "exclusiveMinimum"])
KEYWORDS = ANNOTATIONS | ANY_VALUE | OBJECTS | OTHERS | NUMBERS
TYPES: Mapping[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def find_errors(value: Any, schema: Dict[str, Any]) -> List[str]:
    """Return what is wrong with value, outermost first; [] when it fits the schema.

    Raises ValueError for a schema with a word outside KEYWORDS.
    """
    return list(_errors(value, schema, schema, ""))


def _errors(value: Any, schema: Dict[str, Any], root: Dict[str, Any], place: str) -> Iterator[str]:
    unknown = set(schema) - KEYWORDS
    if unknown:
        raise ValueError(f"schema words {sorted(unknown)} are not known to this validator")
    if "$ref" in schema:
        schema = root["definitions"][schema["$ref"].split("/")[-1]]
    own = list(_own_errors(value, schema, place or "the file"))
    yield from own
    if own:
        return
    if isinstance(value, dict):
        yield from _object_errors(value, schema, root, place)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _errors(item, schema["items"], root, f"{place}[{index}]")
    for part in schema.get("allOf", []):
        if not list(_errors(value, part["if"], root, place)):
            yield from _errors(value, part["then"], root, place)


def _own_errors(value: Any, schema: Dict[str, Any], place: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{place} is {value!r}; expected {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {value!r}; known: {', '.join(schema['enum'])}"
    if "type" in schema and not _is_type(value, schema["type"]):
        yield f"{place} is {value!r}; expected {schema['type']}"
    elif isinstance(value, (int, float)):
        yield from _number_errors(value, schema, place)
    elif isinstance(value, str):
        yield from _text_errors(value, schema, place)
    elif isinstance(value, list):
        yield from _length_errors(value, schema, place)


def _is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def _number_errors(value: float, schema: Dict[str, Any], place: str) -> Iterator[str]:
    # Written so that NaN, which Python's json reads, fits no bound.
    if "minimum" in schema and not value >= schema["minimum"]:
        yield f"{place} is {value}; expected at least {schema['minimum']}"
    if "maximum" in schema and not value <= schema["maximum"]:
        yield f"{place} is {value}; expected at most {schema['maximum']}"
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        yield f"{place} is {value}; expected more than {schema['exclusiveMinimum']}"


def _text_errors(value: str, schema: Dict[str, Any], place: str) -> Iterator[str]:
    if len(value) < schema.get("minLength", 0):
        yield f"{place} is empty; expected text"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{place} is {value!r}; expected text like {schema['pattern']}"


def _length_errors(value: List[Any], schema: Dict[str, Any], place: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{place} has {len(value)} entries; expected at least {schema['minItems']}"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{place} has {len(value)} entries; expected at most {schema['maxItems']}"


def _object_errors(
    value: Dict[str, Any], schema: Dict[str, Any], root: Dict[str, Any], place: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    prefix = place + "." if place else ""
    for key in schema.get("required", []):
        if key not in value:
            names = ", ".join(known or schema["required"])
            yield f"key {prefix + key!r} is missing; known keys: {names}"
    if len(value) < schema.get("minProperties", 0):
        names = ", ".join(known) or "any name"
        yield f"{place} is empty; expected at least {schema['minProperties']} of: {names}"
    extra = schema.get("additionalProperties", True)
    for key in sorted(value):
        if key in known:
            yield from _errors(value[key], known[key], root, prefix + key)
        elif extra is False:
            yield f"key {prefix + key!r} is unknown; known keys: {', '.join(known)}"
        elif isinstance(extra, dict):
            yield from _errors(value[key], extra, root, prefix + key)
