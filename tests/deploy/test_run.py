"""The program end to end: on any Python with NumPy engines, and with real runtimes where they are.

The clip: a fist for 0.8 s, then the other sign; a second hand joins.
"""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from deploy import options
from deploy import run as program
from deploy.core.model_json import read_model_json, write_model_json
from deploy.engine import Plan
from deploy.source import FolderSource
from tests.deploy import tiny_models
from tests.deploy.clips import count_frames, write_clip, write_folder
from tests.deploy.isolated import run_isolated

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (
    [[("fist", 64, 64)]] * 8
    + [[("stop", 64, 64)]] * 8
    + [[("stop", 64, 64), ("ok", 384, 192)]] * 6
)
STORY = [
    (2, 1, "begin", "fist"),
    (7, 1, "hold", "fist"),
    (10, 1, "end", "fist"),
    (10, 1, "begin", "stop"),
    (15, 1, "hold", "stop"),
    (18, 2, "begin", "ok"),
    (20, 1, "hold", "stop"),
    (21, 1, "lost", None),
    (21, 2, "lost", None),
]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", SCRIPT, fps=10)


def numpy_models(folder, monkeypatch):
    """Model folders with model.json and empty files, opened as NumPy engines."""
    infos = {"detector": tiny_models.detector_info(), "gesture": tiny_models.classifier_info()}
    for name, info in infos.items():
        (folder / name).mkdir()
        for file in info.files.values():
            (folder / name / file).write_bytes(b"")
        write_model_json(folder / name, info)

    @contextlib.contextmanager
    def open_engine(model_dir, *, runtime="auto", precision="auto"):
        is_detector = Path(model_dir).name == "detector"
        engine = tiny_models.numpy_detector() if is_detector else tiny_models.numpy_classifier()
        engine.model = read_model_json(Path(model_dir))
        engine.plan = Plan("openvino", "fp32", "", "")
        yield engine

    monkeypatch.setattr(options, "open_engine", open_engine)
    return ["--detector", str(folder / "detector"), "--gesture", str(folder / "gesture")]


@pytest.fixture
def models(tmp_path, monkeypatch):
    return numpy_models(tmp_path, monkeypatch)


def read_events(path):
    return [json.loads(line) for line in Path(str(path)).read_text().splitlines()]


def story(events):
    return [(e["frame"], e["track"], e["phase"], e["gesture"]) for e in events]


def test_clip_becomes_video_and_events(tmp_path, clip, models, capsys):
    out, events = tmp_path / "out.mp4", tmp_path / "events.jsonl"
    arguments = ["--source", clip, "--sink", str(out), "--sink", str(events)]
    assert program.main(arguments + models) == 0
    assert story(read_events(events)) == STORY
    assert count_frames(out) == (len(SCRIPT), (640, 384))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("run: 22 frames, ")
    assert f"{len(STORY)} events" in last
    assert str(out) in last


def test_two_runs_send_the_same_events_but_for_latency(tmp_path, clip, models):
    seen = []
    for name in ("a.jsonl", "b.jsonl"):
        assert program.main(["--source", clip, "--sink", str(tmp_path / name)] + models) == 0
        seen.append(read_events(tmp_path / name))
        for event in seen[-1]:
            event.pop("latency_ms")
    assert seen[0] == seen[1]


@pytest.mark.parametrize("readers", [1, 3])
def test_number_of_readers_changes_no_event_and_is_told(tmp_path, clip, models, readers):
    events, stats = tmp_path / "events.jsonl", tmp_path / "stats.json"
    arguments = ["--source", clip, "--sink", str(events), "--stats", str(stats)]
    assert program.main(arguments + ["--readers", str(readers)] + models) == 0
    assert story(read_events(events)) == STORY
    document = json.loads(stats.read_text())
    assert (document["source"], document["readers"]) == (clip, readers)
    assert {document["latency"][step]["samples"] for step in ("decode", "resize")} == {len(SCRIPT)}


def test_folder_in_and_folder_out(tmp_path, models):
    folder = write_folder(tmp_path / "images", SCRIPT)
    out = str(tmp_path / "drawn") + "/"
    arguments = ["--source", folder, "--fps", "10", "--sink", out]
    assert program.main(arguments + models) == 0
    assert len(list((tmp_path / "drawn").iterdir())) == len(SCRIPT)


def test_events_on_standard_output_are_nothing_but_events(clip, models, capsys):
    assert program.main(["--source", clip, "--sink", "-"] + models) == 0
    lines = capsys.readouterr().out.splitlines()
    assert story([json.loads(line) for line in lines]) == STORY


def test_statistics_hold_every_step(tmp_path, clip, models):
    stats, out = tmp_path / "stats.json", tmp_path / "frames"
    arguments = ["--source", clip, "--stats", str(stats), "--sink", str(out)]
    assert program.main(arguments + models) == 0
    document = json.loads(stats.read_text())
    assert document["frames"] == len(SCRIPT)
    assert document["events"] == len(STORY)
    assert document["fps"] > 0
    assert set(document["engines"]) == {"detector", "gesture"}
    assert set(document["latency"]) == {
        "decode",
        "resize",
        "preprocess",
        "detect",
        "cluster",
        "track",
        "crop",
        "classify",
        "total",
        "period",
        "draw",
        "write",
    }
    assert set(document["latency"]["detect"]) == {
        "mean_ms",
        "min_ms",
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "samples",
    }


def test_max_frames_ends_early_and_closes_gestures(tmp_path, clip, models):
    events = tmp_path / "events.jsonl"
    arguments = ["--source", clip, "--sink", str(events), "--max-frames", "5"]
    assert program.main(arguments + models) == 0
    assert story(read_events(events)) == [(2, 1, "begin", "fist"), (4, 1, "lost", None)]


def test_without_a_gesture_model_hands_are_drawn_and_no_events_sent(
    tmp_path, clip, models, caplog
):
    out, events = tmp_path / "out.avi", tmp_path / "events.jsonl"
    arguments = ["--source", clip, "--sink", str(out), "--sink", str(events), "--no-gesture"]
    assert program.main(arguments + models) == 0
    assert count_frames(out)[0] == len(SCRIPT)
    assert events.read_text() == ""
    assert "no events are sent" in caplog.text


def test_signal_closes_gestures_and_finishes_files(tmp_path, models, monkeypatch):
    folder = write_folder(tmp_path / "images", SCRIPT)
    read = FolderSource.frames

    def endless(self):
        for frame in read(self):
            if frame.number == 5:
                # The reading thread is ahead of the loop, by as much as that is slow.
                deadline_s = time.monotonic() + 30
                while not (events.is_file() and "begin" in events.read_text()):
                    assert time.monotonic() < deadline_s
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait(0.2)
            yield frame

    monkeypatch.setattr(FolderSource, "frames", endless)
    events, out = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    arguments = ["--source", folder, "--fps", "10", "--sink", str(events), "--sink", str(out)]
    before = signal.getsignal(signal.SIGINT)
    assert program.main(arguments + models) == 0
    told = story(read_events(events))
    assert told[0] == (2, 1, "begin", "fist")
    assert told[-1][1:] == (1, "lost", None)
    num_frames = count_frames(out)[0]
    assert 3 <= num_frames < len(SCRIPT)
    assert signal.getsignal(signal.SIGINT) is before


def test_source_that_breaks_closes_gestures_and_fails_in_one_line(tmp_path, models, capsys):
    folder = write_folder(tmp_path / "images", SCRIPT)
    (tmp_path / "images" / "005.png").write_bytes(b"broken")
    events = tmp_path / "events.jsonl"
    arguments = ["--source", folder, "--fps", "10", "--sink", str(events)]
    assert program.main(arguments + models) == 1
    assert story(read_events(events)) == [(2, 1, "begin", "fist"), (4, 1, "lost", None)]
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_source_that_does_not_open_leaves_earlier_results_whole(tmp_path, models, capfd, content):
    source, events, out = (tmp_path / name for name in ("in.mp4", "events.jsonl", "out.mp4"))
    events.write_text("earlier\n")
    out.write_bytes(b"earlier")
    if content is not None:
        source.write_bytes(content)
    arguments = ["--source", str(source), "--sink", str(events), "--sink", str(out)]
    assert program.main(arguments + models) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ") and "in.mp4" in line]
    assert events.read_text() == "earlier\n"
    assert out.read_bytes() == b"earlier"


def test_model_of_another_schema_is_one_line(tmp_path, clip, models, capsys):
    path = tmp_path / "detector" / "model.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    assert program.main(["--source", clip] + models) == 1
    assert "schema is 99" in capsys.readouterr().err


def test_sink_that_fails_ends_the_run_in_one_line(tmp_path, clip, models, capsys):
    assert program.main(["--source", clip, "--sink", str(tmp_path / "no/out.mp4")] + models) == 1
    assert "error: sink " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--source", "x", "--max-frames", "0"],
        ["--source", "x", "--readers", "0"],
        ["--source", "x", "--runtime", "y"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2


MAINS = ["deploy.run", "deploy.benchmark", "deploy.evaluate"]


@pytest.mark.parametrize("module", MAINS)
def test_help_needs_nothing_but_numpy_and_opencv(tmp_path, module):
    done = run_isolated(ROOT, module, "--help", packages=("numpy", "cv2"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m {module}" in done.stdout


def test_without_any_runtime_the_error_names_the_package(tmp_path, clip, models):
    done = run_isolated(
        ROOT, "deploy.run", "--source", clip, *models, packages=("numpy", "cv2"), cwd=tmp_path
    )
    assert done.returncode == 1
    *notes, line = done.stderr.splitlines()
    # Where the pipeline has run, a choice of engine for another model lies in the tree.
    assert all(note.endswith(", not used") for note in notes)
    assert line.startswith("error: no runtime is installed")
    assert "pip install onnxruntime" in line


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_real_runtimes_tell_the_same_story(tmp_path, clip, runtime, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip(runtime)
    detector = tiny_models.write_detector(tmp_path / "detector")
    gesture = tiny_models.write_classifier(tmp_path / "gesture")
    arguments = ["--source", clip, "--sink", "-", "--runtime", runtime]
    arguments += ["--detector", str(detector), "--gesture", str(gesture)]
    assert program.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert story([json.loads(line) for line in lines]) == STORY


COMMANDS = {
    "gestures": {"fist": {"name": "go", "linear": 0.2}, "stop": {"name": "stop"}},
    "deadline_ms": 60000,
}


def test_commands_follow_the_gestures_and_end_safe(tmp_path, clip, models):
    rule, told = tmp_path / "rule.json", tmp_path / "commands.jsonl"
    rule.write_text(json.dumps(COMMANDS))
    arguments = ["--source", clip, "--commands", str(rule), "--command-sink", str(told)]
    assert program.main(arguments + models) == 0
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    # The clip runs faster than its time: what is told depends on the thread, its order does not.
    names = [(line["command"], line["reason"]) for line in lines]
    assert names[0] == ("stop", "start")
    assert names[-1] == ("stop", "exit")
    story = [("stop", "start"), ("go", "gesture"), ("stop", "end"), ("stop", "gesture")]
    assert [name for name in story if name in names] == sorted(
        {name for name in names if name in story}, key=story.index
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--commands", "{}"], "go together"),
        (["--command-sink", "-"], "go together"),
        (["--commands", "{}", "--command-sink", "-"], "gestures is missing"),
        (["--commands", "{", "--command-sink", "-"], "expected JSON"),
        (["--commands", "no.json", "--command-sink", "-"], "cannot be read"),
        (["--commands", "{}", "--command-sink", "-", "--no-gesture"], "needs a gesture model"),
    ],
)
def test_wrong_commands_are_one_line(clip, models, capsys, arguments, message):
    assert program.main(["--source", clip] + arguments + models) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_clips_of_gestures_are_recorded(tmp_path, clip, models):
    folder = tmp_path / "clips"
    arguments = ["--source", clip, "--record", str(folder), "--record-seconds", "0.2"]
    assert program.main(arguments + models) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["0.200_fist_1.mp4", "1.000_stop_1.mp4", "1.800_ok_2.mp4"]


def test_dry_run_prints_the_plan_and_touches_nothing(tmp_path, clip, models, capsys):
    out = tmp_path / "out.mp4"
    arguments = ["--source", clip, "--sink", str(out), "--dry-run", "--record", "clips"]
    arguments += ["--commands", json.dumps(COMMANDS), "--command-sink", "ros2://cmd_vel"]
    arguments += ["--runtime", "onnxruntime", "--readers", "2"]
    assert program.main(arguments + models) == 0
    plan = capsys.readouterr().out
    for part in (
        "(file); no frame is dropped, readers: 2",
        "tiny-detector, 160x96",
        "runtime onnxruntime",
        "thumbs_up, fist, stop, ok, two;",
        "begins at 0.6 for 0.2 s",
        str(out),
        "fist -> go (0.2 m/s, 0 rad/s)",
        "stop (0 m/s, 0 rad/s) after 60000 ms",
        "to ros2://cmd_vel",
        "clips: 3 s before and after",
    ):
        assert part in plan
    assert not out.exists()


def test_dry_run_of_what_cannot_run_fails_as_the_run_would(models, capsys):
    assert program.main(["--source", "no.mp4", "--dry-run"] + models) == 1
    assert "no.mp4 is not there" in capsys.readouterr().err


def test_log_as_json_is_json_to_the_last_line(tmp_path, clip, models, capfd):
    arguments = ["--source", clip, "--log-format", "json", "--no-gesture", "--sink", "-"]
    assert program.main(arguments + models) == 0
    assert program.main(["--source", "no.mp4", "--log-format=json"] + models) == 1
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["level"] for line in lines if "no.mp4" in line["message"]] == ["error"]
    assert any(line["message"].startswith("run: 22 frames") for line in lines)
