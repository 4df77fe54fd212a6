"""Log lines: JSON that parses whatever they say, text as it is."""

import json
import logging

import pytest

from deploy.logs import JsonFormatter, say


def test_record_is_one_object_with_its_level_and_traceback():
    try:
        raise ValueError('a "quoted"\nbreak')
    except ValueError as error:
        record = logging.getLogger("a.b").makeRecord(
            "a.b", logging.WARNING, "f", 1, "gone: %s", (error,), (ValueError, error, None)
        )
    line = JsonFormatter().format(record)
    assert "\n" not in line
    document = json.loads(line)
    assert (document["level"], document["logger"]) == ("warning", "a.b")
    assert document["message"] == 'gone: a "quoted"\nbreak'
    assert "ValueError" in document["exception"]
    assert document["time"] == pytest.approx(record.created, abs=1e-5)


@pytest.mark.parametrize(("is_error", "text"), [(True, "error: no\n"), (False, "no\n")])
def test_program_says_text_as_it_is(capsys, is_error, text):
    say("no", form="text", is_error=is_error)
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(("is_error", "level"), [(True, "error"), (False, "info")])
def test_program_says_json(capsys, is_error, level):
    say("no", form="json", is_error=is_error)
    document = json.loads(capsys.readouterr().err)
    assert (document["level"], document["message"]) == (level, "no")
