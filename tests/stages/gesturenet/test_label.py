"""The tool from end to end, as a person runs it: cut, serve, export."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.gesturenet import label
from stages.gesturenet.label import main
from tests.deploy import tiny_models
from tests.deploy.clips import write_clip

ROOT = Path(__file__).parents[3]
SCRIPT = [[("fist", 64, 64)]] * 3 + [[("stop", 64, 64), ("ok", 384, 192)]] * 2
COMMAND = [sys.executable, "-m", "stages.gesturenet.label"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    tiny_models.write_detector(root / "detector")
    tiny_models.write_classifier(root / "gesture")
    return ["--detector", str(root / "detector"), "--gesture", str(root / "gesture")]


@pytest.fixture
def out(tmp_path: Path, models: list[str]) -> Path:
    """A folder of seven crops of five frames."""
    clip = write_clip(tmp_path / "clip.mp4", SCRIPT)
    arguments = ["--source", clip, *models, "--every", "1", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--no-serve"]) == 0
    return tmp_path / "out"


def below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_no_serve_writes_crops_and_a_page_that_stands_alone(out: Path) -> None:
    assert len(list((out / "crops").iterdir())) == 7
    page = (out / "index.html").read_text()
    assert '"token":null' in page
    assert "clip_000004-1.jpg" in page
    assert sorted(p.name for p in out.iterdir()) == ["crops", "crops.jsonl", "index.html"]


def test_the_last_line_has_counts_seconds_and_the_path(
    out: Path, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    source = str(out.parent / "clip.mp4")
    arguments = ["--source", source, *models, "--every", "1", "--out", str(out), "--no-serve"]
    assert main(arguments) == 0
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"label: 0 new frames, 7 crops, \d+\.\d s -> {out}/crops", lines[-2])
    assert lines[-1] == f"label: 7 crops -> {out}/index.html"


def test_the_export_takes_what_a_person_said_and_suggestions_only_when_asked(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"clip_000000-0.jpg": "two", "clip_000001-0.jpg": "discard"}
    (out / "labels.json").write_text(json.dumps({"schema": 1, "labels": said}))
    to = out.parent / "to"
    assert main(["--out", str(out), "--export", str(to)]) == 0
    assert below(to) == ["two/clip_000000-0.jpg"]
    assert "5 crops are not sorted and left out" in caplog.text
    assert main(["--out", str(out), "--export", str(to), "--accept-suggestions"]) == 0
    assert len(below(to)) == 6
    assert "fist/clip_000002-0.jpg" in below(to)
    assert "stop/clip_000003-0.jpg" in below(to) or "stop/clip_000003-1.jpg" in below(to)
    assert main(["--out", str(out), "--export"]) == 0
    assert below(out / "classes") == ["two/clip_000000-0.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no source given, and {out} holds no crops; give a video or a folder"),
        (["--source", "missing.mp4"], "source missing.mp4 is not there"),
        (["--source", "0"], "source 0 is live"),
        (["--source", "{clip}", "--confidence", "99"], "no hand found in 1 frames"),
        (["--source", "{clip}", "--out", "{full}"], "is not empty and not a folder of this tool"),
        (["--source", "{broken}"], "cannot open it"),
        (["--source", "{clip}", "--detector", "{full}"], "model.json: no such file"),
        (["--export"], "no source given"),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    tmp_path: Path,
    models: list[str],
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    places = {"out": str(tmp_path / "out"), "full": str(tmp_path / "full")}
    places["clip"] = write_clip(tmp_path / "clip.mp4", SCRIPT)
    places["broken"] = str(tmp_path / "broken.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    given = [argument.format(**places) for argument in arguments]
    assert main(["--out", places["out"], *models, *given]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message.format(**places) in last


def test_an_unknown_class_in_labels_json_ends_before_anything_is_served(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "labels.json").write_text('{"schema": 1, "labels": {"clip_000000-0.jpg": "three"}}')
    for action in (["--port", "0"], ["--no-serve"], ["--export"]):
        assert main(["--out", str(out), *action]) == 1
        assert "has the class 'three', known: thumbs_up" in capsys.readouterr().err


def test_ctrl_c_while_cutting_says_how_to_go_on(
    tmp_path: Path,
    models: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*args: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(label, "cut_sources", interrupt)
    clip = write_clip(tmp_path / "clip.mp4", SCRIPT)
    assert main(["--source", clip, *models, "--out", str(tmp_path / "out")]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "label: interrupted; the same command goes on"


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--every", "0"], ["--limit", "x"]])
def test_usage_is_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--out", "out", *arguments])
    assert ended.value.code == 2


@pytest.fixture
def server(out: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The program serving `out` in a process of its own, and its address."""
    command = [*COMMAND, "--out", str(out), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, line
    yield process, found[0]
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_saved_class_outlives_the_server_and_ctrl_c_says_how_to_go_on(
    out: Path, server: tuple[subprocess.Popen, str]
) -> None:
    process, address = server
    with urllib.request.urlopen(address, timeout=10) as reply:
        page = reply.read().decode()
    token = re.search(r'"token":"([^"]+)"', page)
    assert token
    body = json.dumps({"labels": {"clip_000000-0.jpg": "two"}}).encode()
    headers = {"X-Token": token[1], "Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}labels", body, headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert json.load(reply) == {"saved": 1}
    assert json.loads((out / "labels.json").read_text())["labels"] == {"clip_000000-0.jpg": "two"}
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    last = process.stderr.read().splitlines()[-1]
    assert process.wait(timeout=10) == 0
    assert last.startswith(f"label: 1 of 7 crops sorted -> {out}/labels.json; go on: python -m")
