"""The bundle: what is in it, equal bytes, and that it runs alone with few packages."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from deploy.core.errors import DeployError, UserError
from deploy.machine import describe_machine, fingerprint
from deploy.manifest import check_manifest
from stages._bundle import collect_files
from stages.bundle import run
from stages.report import run_bundle
from stages.report import unpacked as unpacked_bundle
from tests.deploy.clips import count_frames, write_clip, write_folder
from tests.deploy.isolated import run_isolated
from tests.deploy.tiny_models import write_classifier, write_detector, write_encrypted
from tests.stages.stage_runs import run_stage

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = [[("fist", 64, 64)]] * 8


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository root with deploy/, the two models and a measured choice."""
    root = tmp_path / "repository"
    root.mkdir()
    (root / "deploy").symlink_to(REPOSITORY / "deploy")
    detector = write_detector(root / "models" / "export")
    write_classifier(root / "models" / "gesture")
    document = {
        "schema": 1,
        "fingerprint": fingerprint(describe_machine()),
        "machine": {"cpu": "x"},
        "sha256": json.loads((detector / "model.json").read_text())["sha256"],
        "choice": {"runtime": "onnxruntime", "precision": "int8", "reason": "1.2 ms"},
        "engines": [{"detector_ms": {"p50_ms": 1.2}}],
    }
    (root / "results" / "engines").mkdir(parents=True)
    (root / "results" / "engines" / "this-machine.json").write_text(json.dumps(document))
    return root


def build(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert run_stage("bundle", run, root, {}, monkeypatch) == 0
    return root / "dist" / "hand-gestures.tar.gz"


@pytest.fixture
def unpacked(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(build(root, monkeypatch)) as archive:
        archive.extractall(tmp_path / "device", filter="data")
    return tmp_path / "device" / "hand-gestures"


def test_bundle_holds_code_models_choice_and_manifest(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.*")}
    assert {
        "README.md",
        "requirements.txt",
        "engines.json",
        "manifest.json",
        "deploy/run.py",
        "deploy/core/model_schema.json",
        "models/detector/detector.onnx",
        "models/detector/detector_qdq.onnx",
        "models/detector/model.json",
        "models/gesture/gesture.onnx",
        "models/gesture/model.json",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert not [name for name in names if "test" in name]
    assert check_manifest(unpacked) == len(names) - 1


def test_equal_inputs_give_equal_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(root, monkeypatch).read_bytes()
    for path in (root / "models").rglob("*"):
        os.utime(path, (1, 1))
    measured = root / "results" / "engines" / "this-machine.json"
    document = json.loads(measured.read_text())
    document["engines"][0]["detector_ms"]["p50_ms"] = 3.4
    document["choice"]["reason"] = "3.4 ms"
    measured.write_text(json.dumps(document))
    assert build(root, monkeypatch).read_bytes() == first


def test_entries_are_sorted_and_without_owner_or_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(build(root, monkeypatch)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(e.uid, e.gid, e.uname, e.gname, e.mode, e.mtime) for e in entries} == {
        (0, 0, "", "", 0o644, 946684800)
    }
    assert all(entry.name.startswith("hand-gestures/") for entry in entries)


def test_damaged_model_is_not_packed(root: Path) -> None:
    (root / "models" / "export" / "detector.onnx").write_bytes(b"cut off")
    models = {"detector": root / "models" / "export", "gesture": root / "models" / "gesture"}
    choice = root / "results" / "engines" / "this-machine.json"
    with pytest.raises(DeployError, match=r"detector\.onnx: sha256"):
        collect_files(root / "deploy", models, choice)


def test_unpacked_bundle_runs_with_onnxruntime_alone_and_says_why_fp32(
    unpacked: Path, tmp_path: Path
) -> None:
    """As on a device where nothing was measured: the record of another machine does not count."""
    record = unpacked / "engines.json"
    record.write_text(record.read_text().replace(fingerprint(describe_machine()), "0" * 16))
    clip = write_clip(tmp_path / "clip.mp4", CLIP, fps=10)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ["--source", clip, "--sink", "out.mp4", "--sink", "events.jsonl"]
    packages = ("numpy", "cv2", "onnxruntime")
    done = run_isolated(unpacked, "deploy.run", *arguments, packages=packages, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime fp32" in done.stderr
    assert "INT8 is slower than FP32 in ONNX Runtime" in done.stderr
    assert count_frames(elsewhere / "out.mp4")[0] == len(CLIP)
    lines = (elsewhere / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [(e["phase"], e["gesture"]) for e in events] == [
        ("begin", "fist"),
        ("hold", "fist"),
        ("lost", None),
    ]


def test_encrypted_gesture_model_is_packed_and_the_bundle_runs_without_gestures(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(root / "models" / "gesture")
    write_encrypted(root / "models" / "gesture")
    clip = write_clip(tmp_path / "clip.mp4", CLIP, fps=10)
    archive = build(root, monkeypatch)
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
        opened.extractall(tmp_path / "device", filter="data")
    inside = {f"hand-gestures/models/gesture/{name}" for name in ("gesturenet.etlt", "convert.md")}
    assert inside <= names
    device = tmp_path / "device" / "hand-gestures"
    packages = ("numpy", "cv2", "onnxruntime")
    done = run_isolated(device, "deploy.run", "--source", clip, packages=packages, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: model gesturenet is encrypted")
    assert str(device / "models" / "gesture" / "convert.md") in last
    frames = write_folder(tmp_path / "frames", CLIP)
    folder = tmp_path / "report"
    folder.mkdir()
    with unpacked_bundle(archive) as root:
        assert run_bundle(root, Path(frames), folder, gestures=False) == []
        assert count_frames(folder / "demo.mp4")[0] == len(CLIP)
        with pytest.raises(UserError, match="model gesturenet is encrypted"):
            run_bundle(root, Path(frames), folder, gestures=True)


def test_measured_choice_is_taken_on_this_machine(unpacked: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", CLIP, fps=10)
    packages = ("numpy", "cv2", "onnxruntime", "openvino")
    done = run_isolated(unpacked, "deploy.run", "--source", clip, packages=packages, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "engines.json: onnxruntime int8 was measured to be best here" in done.stderr


def test_manifest_of_an_unpacked_bundle_is_checked(unpacked: Path, tmp_path: Path) -> None:
    packages = ("numpy", "cv2")
    done = run_isolated(unpacked, "deploy.manifest", packages=packages, cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith("manifest: ")) == (0, True)
    (unpacked / "deploy" / "sink.py").write_text("")
    done = run_isolated(unpacked, "deploy.manifest", packages=packages, cwd=tmp_path)
    assert done.returncode == 1
    assert "sink.py" in done.stderr


def test_missing_model_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "models" / "export").rename(root / "models" / "elsewhere")
    assert run_stage("bundle", run, root, {}, monkeypatch) == 1
    assert "models/export is not there" in capsys.readouterr().err
