"""The machine's file is rewritten only when the machine changes."""

import json
import os
from pathlib import Path

import pytest

from deploy.machine import describe_machine, fingerprint
from stages import _machine
from stages._machine import write_machine


def test_file_holds_description_and_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / ".work" / "machine.json"
    assert write_machine(path)
    content = json.loads(path.read_text())
    assert content == {
        "fingerprint": fingerprint(describe_machine()),
        "machine": describe_machine(),
    }


def test_file_is_left_alone_while_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    write_machine(path)
    os.utime(path, (1, 1))
    assert not write_machine(path)
    assert path.stat().st_mtime == 1


@pytest.mark.parametrize("content", ["", "{}", "not json", "[]"])
def test_damaged_file_is_written_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "machine.json"
    path.write_text(content)
    assert write_machine(path)
    assert "fingerprint" in json.loads(path.read_text())


def test_another_runtime_version_changes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine.json"
    write_machine(path)
    before = path.read_text()
    machine = dict(describe_machine(), runtimes={"openvino": "1.0"})
    monkeypatch.setattr(_machine, "describe_machine", lambda: machine)
    assert write_machine(path)
    assert path.read_text() != before
