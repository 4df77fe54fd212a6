"""Options from a file: what they become, what the command line replaces, what is refused."""

import json

import pytest

from deploy.core.errors import DeployError
from deploy.run_options import parse_arguments

RULE = {"gestures": {"stop": {"name": "stop"}}}


def write(tmp_path, content, name="run.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def parse(*arguments):
    return parse_arguments(list(arguments), description="")


def test_file_gives_options_of_every_kind(tmp_path):
    path = write(
        tmp_path,
        {
            "source": "0",
            "sink": ["-", "out.mp4"],
            "fps": 15,
            "no-gesture": True,
            "dry_run": False,
            "size": "640x480",
            "readers": 2,
            "stats": None,
            "commands": RULE,
            "command-sink": "commands.jsonl",
        },
    )
    args = parse("--config", path)
    assert (args.source, args.sink, args.fps) == ("0", ["-", "out.mp4"], 15.0)
    assert (args.no_gesture, args.dry_run, args.size, args.stats) == (
        True,
        False,
        (640, 480),
        None,
    )
    assert args.readers == 2
    assert json.loads(args.commands) == RULE
    assert args.command_sink == ["commands.jsonl"]


def test_command_line_replaces_what_the_file_says(tmp_path):
    path = write(tmp_path, {"source": "0", "sink": ["-", "out.mp4"], "fps": 15})
    args = parse(f"--config={path}", "--sink", "other.mp4", "--source=1")
    assert (args.source, args.sink, args.fps) == ("1", ["other.mp4"], 15.0)


def test_number_of_readers_is_chosen_by_the_machine_unless_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.readers.available_cpus", lambda: 16)
    assert parse("--source", "clip.mp4").readers == 2
    path = write(tmp_path, {"source": "clip.mp4", "readers": "auto"})
    assert parse("--config", path).readers == 2
    assert parse("--config", path, "--readers", "1").readers == 1


def test_yaml_is_read_where_pyyaml_is(tmp_path):
    pytest.importorskip("yaml")
    path = write(tmp_path, "source: '0'\nsink: [events.jsonl]\n", "run.yaml")
    args = parse("--config", path)
    assert (args.source, args.sink) == ("0", ["events.jsonl"])


def test_without_pyyaml_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    path = write(tmp_path, "source: '0'\n", "run.yaml")
    with pytest.raises(DeployError, match=r"PyYAML \(6\.0\.1.*pip install pyyaml"):
        parse("--config", path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sauce": "0"}, "unknown key 'sauce', known: .*source"),
        ({"config": "x.json"}, "unknown key 'config'"),
        ({"help": True}, "unknown key 'help'"),
        ({"source": ["0"]}, "source is .*expected one value"),
        ({"source": True}, "source is True, expected text or numbers"),
        ({"no-gesture": "yes"}, "no-gesture is 'yes', expected true or false"),
        ({"sink": 3}, "sink is 3, expected a list"),
        ([1], "is no object"),
        ("{", "run.json: .*line 1"),
    ],
)
def test_wrong_file_is_one_line(tmp_path, content, message):
    with pytest.raises(DeployError, match=message) as caught:
        parse("--config", write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(DeployError, match="cannot be read: No such file"):
        parse("--config", str(tmp_path / "no.json"))


def test_wrong_value_ends_as_on_the_command_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--config", write(tmp_path, {"source": "0", "fps": -1}))
    assert caught.value.code == 2
    assert "--fps: -1 is not positive" in capsys.readouterr().err


def test_arguments_keep_their_values_whole(tmp_path):
    """A value that looks like an option stays a value."""
    parser_args = parse("--config", write(tmp_path, {"source": "--sink"}))
    assert parser_args.source == "--sink"
