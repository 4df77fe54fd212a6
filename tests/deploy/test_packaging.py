"""The unit and the containers: what they start is a command line that the program takes."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.core.commands import parse_rule
from deploy.run_options import parse_arguments
from deploy.sink import make_sinks
from tests.deploy.tiny_models import CLASSES

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "packaging"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))


def read_unit():
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str
    unit.read(str(FOLDER / "hand-gestures.service"))
    return unit


def test_service_starts_the_program_with_the_example_configuration():
    words = shlex.split(read_unit()["Service"]["ExecStart"])
    assert words[:3] == ["/usr/bin/python3", "-m", "deploy.run"]
    arguments = [str(FOLDER / "run.json") if "hand-gestures.json" in w else w for w in words[3:]]
    args = parse_arguments(arguments, description="")
    assert (args.log_format, args.source, args.size) == ("json", "/dev/video0", (1280, 720))
    sinks = make_sinks(args.sink, commands=args.command_sink)
    assert (len(sinks.events), len(sinks.pictures), len(sinks.commands)) == (2, 1, 1)
    assert parse_rule(json.loads(args.commands), classes=CLASSES).safe.name == "stop"


def test_service_lives_where_its_configuration_writes():
    service = read_unit()["Service"]
    record = json.loads((FOLDER / "run.json").read_text())["record"]
    assert record.startswith(f"/var/lib/{service['StateDirectory']}/")
    assert service["Restart"] == "always"


def test_systemd_finds_no_fault_with_the_service(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: make system-packages")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(FOLDER / "hand-gestures.service")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    faults = [
        line for line in done.stdout.decode().splitlines() if "hand-gestures.service" in line
    ]
    assert faults == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_container_holds_the_bundle_and_starts_the_program(path):
    text = path.read_text()
    assert f"-f deploy/packaging/{path.name} " in text
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    assert copied == [["deploy"], ["models"], ["engines.json", "manifest.json"]]
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE).group(1))
    assert entry == ["python3", "-m", "deploy.run"]
    example = re.search(r"hand-gestures (--source .*)$", text, re.MULTILINE).group(1)
    args = parse_arguments(shlex.split(example), description="")
    assert (args.source, args.sink) == ("0", ["mqtt://127.0.0.1/hands"])


def test_there_is_a_container_for_every_jetpack():
    assert [path.stem for path in DOCKERFILES] == [f"jetpack{number}" for number in (4, 5, 6, 7)]
