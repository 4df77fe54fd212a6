import pytest

from deploy.core.json_schema import find_errors
from deploy.core.model_json import load_schema

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["kind"],
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "rate": {"type": "number", "exclusiveMinimum": 0},
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]*$"},
        "list": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {"$ref": "#/definitions/n"},
        },
        "map": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "boolean"}},
    },
    "allOf": [
        {"if": {"properties": {"kind": {"const": "b"}}}, "then": {"required": ["count"]}},
    ],
    "definitions": {"n": {"type": "integer"}},
}

CASES = [
    ({"kind": "a"}, None),
    ({"kind": "b", "count": 3}, None),
    ({"kind": "a", "rate": 1, "name": "x", "list": [1, 2], "map": {"x": True}}, None),
    ([], "the file is []; expected object"),
    ({}, "key 'kind' is missing; known keys: kind, count, rate, name, list, map"),
    ({"kind": "c"}, "kind is 'c'; known: a, b"),
    ({"kind": "b"}, "key 'count' is missing; known keys: count"),
    ({"kind": "a", "extra": 1}, "key 'extra' is unknown; known keys: kind, count"),
    ({"kind": "a", "count": 0}, "count is 0; expected at least 1"),
    ({"kind": "a", "count": 10}, "count is 10; expected at most 9"),
    ({"kind": "a", "count": 1.5}, "count is 1.5; expected integer"),
    ({"kind": "a", "count": True}, "count is True; expected integer"),
    ({"kind": "a", "rate": 0}, "rate is 0; expected more than 0"),
    ({"kind": "a", "name": ""}, "name is empty"),
    ({"kind": "a", "name": "X"}, "name is 'X'; expected text like"),
    ({"kind": "a", "list": []}, "list has 0 entries; expected at least 1"),
    ({"kind": "a", "list": [1, 2, 3]}, "list has 3 entries; expected at most 2"),
    ({"kind": "a", "list": [1, "2"]}, "list[1] is '2'; expected integer"),
    ({"kind": "a", "map": {}}, "map is empty"),
    ({"kind": "a", "map": {"x": 1}}, "map.x is 1; expected boolean"),
]


@pytest.mark.parametrize(("value", "message"), CASES)
def test_the_first_error_names_place_value_and_expectation(value, message):
    errors = find_errors(value, SCHEMA)
    if message is None:
        assert errors == []
    else:
        assert errors[0].startswith(message)


@pytest.mark.parametrize(("value", "message"), CASES)
def test_verdicts_equal_those_of_jsonschema(value, message):
    jsonschema = pytest.importorskip("jsonschema")
    assert jsonschema.Draft7Validator(SCHEMA).is_valid(value) == (message is None)


def test_nan_fits_no_bound():
    assert find_errors({"kind": "a", "rate": float("nan")}, SCHEMA)


def test_a_schema_word_without_a_rule_here_is_refused():
    with pytest.raises(ValueError, match="uniqueItems"):
        find_errors([], {"uniqueItems": True})


def test_the_published_schema_uses_known_words_only():
    assert find_errors({}, load_schema())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator.check_schema(load_schema())
