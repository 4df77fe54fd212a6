"""Devices over a real SSH server on loopback, cut off in between; TensorRT there is recorded."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

import deploy
from deploy import tensorrt_kernel
from deploy.frames import find_frames
from stages import _boards, _engines, _ssh
from stages._boards import measure_board, pack, read_results, render_job, start_job
from stages._config import compose, section_of
from stages._device_config import BoardConfig, DeviceConfig
from stages._ssh import BoardError, ConnectionCutError, Shell
from stages.engines import run
from tests.deploy.kitti_folder import FRAMES, write_kitti_folder
from tests.deploy.recorded_tensorrt import make_tensorrt
from tests.deploy.tensorrt_device import use_device, write_classifier, write_detector
from tests.stages.recorded_board import write_site
from tests.stages.sshd import Server, make_server
from tests.stages.stage_runs import run_stage

CONFIG = DeviceConfig(eval_images=4, warmup=1, repeats=3)
TARGET = "orin"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = make_server(tmp_path / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def board(tmp_path: Path, server: Server) -> BoardConfig:
    return BoardConfig(
        host="127.0.0.1",
        port=server.port,
        identity_file=str(server.folder / "login_key"),
        known_hosts_file=str(server.known_hosts),
        folder=str(tmp_path / "on device"),
        python=sys.executable,
        environment=write_site(tmp_path / "site"),
        offline_s=20.0,
        timeout_s=120.0,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository root with labelled frames and the two models."""
    root = tmp_path / "root"
    write_kitti_folder(root / "data" / "kitti")
    (root / "data" / "split").mkdir()
    (root / "data" / "split" / "test.txt").write_text("\n".join(sorted(FRAMES)) + "\n")
    write_detector(root / "models" / "export")
    write_classifier(root / "models" / "gesture")
    return root


@pytest.fixture
def archive(root: Path, tmp_path: Path) -> Path:
    kitti = root / "data" / "kitti"
    models = {"detector": root / "models" / "export", "gesture": root / "models" / "gesture"}
    frames = find_frames(kitti / "images", kitti / "labels")
    work = tmp_path / "packed"
    work.mkdir()
    return pack(Path(deploy.__path__[0]), models, frames, kitti / "labels", work)


def measure(board: BoardConfig, archive: Path) -> _boards.BoardResult:
    return measure_board(TARGET, board, archive, CONFIG, has_gesture=True, poll_s=0.2)


def builds(board: BoardConfig) -> list[str]:
    log = Path(board.environment["BUILD_LOG"])
    return log.read_text().split() if log.exists() else []


def wait_for(condition, *, seconds: float = 30.0) -> None:
    ends_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_s, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_device_builds_checks_evaluates_and_benchmarks(board: BoardConfig, archive: Path) -> None:
    result = measure(board, archive)
    engine = result.engines["detector"]
    assert (engine["gpu"], engine["precision"], engine["tensorrt"]) == (
        "Recorded Orin",
        "int8",
        "8.5.3.1",
    )
    assert result.engines["gesture"]["precision"] == "fp16"
    assert result.accuracy()["ap50"] == 1.0
    assert 0.5 < result.accuracy()["ap"] < 1.0
    assert result.evaluate["num_images"] == len(FRAMES)
    assert result.latencies()["detector_batch_1_p50_ms"] > 0
    assert result.latencies()["total_p50_ms"] > 0
    assert result.latencies()["classify_p50_ms"] > 0
    assert "machine" in result.benchmark
    assert builds(board) == ["begun", "done"] * 2
    measure(board, archive)
    assert builds(board) == ["begun", "done"] * 2, "a second run does nothing again"


@pytest.mark.slow
def test_connection_cut_in_the_middle_of_a_build_goes_on(
    board: BoardConfig, archive: Path, server: Server
) -> None:
    board.environment["BUILD_SECONDS"] = "2"
    found: list[_boards.BoardResult] = []
    thread = threading.Thread(target=lambda: found.append(measure(board, archive)))
    thread.start()
    wait_for(lambda: builds(board) == ["begun"])
    server.stop()
    wait_for(lambda: builds(board)[:2] == ["begun", "done"])
    server.start()
    thread.join(timeout=100)
    assert builds(board) == ["begun", "done"] * 2, "no build began twice"
    assert found[0].accuracy()["ap50"] == 1.0


@pytest.mark.slow
def test_stage_that_is_stopped_finds_the_running_job_again(
    board: BoardConfig, archive: Path
) -> None:
    board.environment["BUILD_SECONDS"] = "2"
    hasty = replace(board, timeout_s=1.0)
    with pytest.raises(BoardError, match="not done in 1 s; it goes on there"):
        measure(hasty, archive)
    assert measure(board, archive).accuracy()["ap50"] == 1.0
    assert builds(board) == ["begun", "done"] * 2


def test_push_goes_on_where_it_was_cut_and_repairs_what_is_damaged(
    board: BoardConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(TARGET, board)
    source = tmp_path / "file"
    source.write_bytes(bytes(range(256)) * 5000)
    place = tmp_path / "there"
    part = place.with_name("there.part")
    part.write_bytes(source.read_bytes()[:1_000_000])
    sent: list[int] = []
    run_script = Shell.run

    def count(self: Shell, script: str, **options) -> bytes:
        sent.append(len(options.get("content") or b""))
        return run_script(self, script, **options)

    monkeypatch.setattr(Shell, "run", count)
    shell.push(source, str(place))
    assert place.read_bytes() == source.read_bytes()
    assert sum(sent) == 280_000
    part.write_bytes(b"other bytes")
    with pytest.raises(ConnectionCutError, match="arrived damaged"):
        shell.push(source, str(place))
    part.write_bytes(bytes(2_000_000))
    shell.push(source, str(place))
    assert place.read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_failing_step_is_named_with_its_last_words(board: BoardConfig, archive: Path) -> None:
    board.environment["BOARD_HAS_INT8"] = "0"
    strict = replace(board, precision="int8", strict=True)
    with pytest.raises(BoardError) as error:
        measure(strict, archive)
    message = str(error.value)
    assert "step build-detector failed" in message
    assert "has no INT8" in message
    assert "\n" not in message
    lenient = replace(board, precision="int8")
    assert measure(lenient, archive).engines["detector"]["precision"] == "fp16"


def test_job_that_was_killed_starts_again(board: BoardConfig, archive: Path) -> None:
    shell = Shell(TARGET, board)
    _boards._deliver(shell, archive, board.folder)
    start_job(shell, board.folder, "sleep 60")
    assert _boards._read_state(shell, board.folder) == "running"
    start_job(shell, board.folder, "exit 1")
    assert _boards._read_state(shell, board.folder) == "running", "one job at a time"
    pid = shell.run(f"cat '{board.folder}/job.pid'").decode().strip()
    shell.run(f"kill -9 {pid}")
    wait_for(lambda: _boards._read_state(shell, board.folder) == "")
    start_job(
        shell, board.folder, f"cd '{board.folder}/{_boards.ROOT_NAME}'\nmkdir done\ntouch done/all"
    )
    wait_for(lambda: _boards._read_state(shell, board.folder) == "done")


def test_unknown_host_key_refused_login_and_silence_say_what_to_do(
    board: BoardConfig, server: Server, tmp_path: Path
) -> None:
    nobody = tmp_path / "empty"
    nobody.write_text("")
    with pytest.raises(BoardError, match="host key of 127.0.0.1 is not known .* ssh 127.0.0.1"):
        Shell(TARGET, replace(board, known_hosts_file=str(nobody))).run("true")
    stranger = replace(board, identity_file=str(server.folder / "other_key"))
    with pytest.raises(BoardError, match="refuses the login by key; run: ssh-copy-id"):
        Shell(TARGET, stranger).run("true")
    with pytest.raises(ConnectionCutError, match=r"no answer from 127.0.0.1 in 1 s"):
        Shell(TARGET, board).run("sleep 30", timeout_s=1)
    with pytest.raises(BoardError, match="exited 3: oh no"):
        Shell(TARGET, board).run("echo oh no >&2; exit 3")
    server.stop()
    with pytest.raises(ConnectionCutError, match="no connection to 127.0.0.1"):
        Shell(TARGET, board).run("true")


@pytest.mark.slow
def test_device_that_is_off_fails_alone_and_is_reported(
    root: Path,
    board: BoardConfig,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    off = replace(board, port=1, offline_s=1.0)
    monkeypatch.setattr(_boards, "POLL_S", 0.2)
    config = replace(
        CONFIG, targets=["this-machine", "off", TARGET], boards={"off": off, TARGET: board}
    )
    caplog.set_level("WARNING")
    assert run_stage("engines", run, root, {"device": asdict(config)}, monkeypatch) == 0
    results = root / "results" / "engines"
    assert sorted(p.name for p in results.iterdir()) == [
        "off.json",
        "orin.json",
        "this-machine.json",
    ]
    assert "no connection to 127.0.0.1" in json.loads((results / "off.json").read_text())["error"]
    written = json.loads((results / "orin.json").read_text())
    assert written["engines"]["detector"]["precision"] == "int8"
    metrics = json.loads((root / "results" / "engines.json").read_text())
    assert metrics[TARGET] == {"ap": metrics["onnxruntime_int8"]["ap"], "ap50": 1.0}
    assert "off" not in metrics
    assert "given up after 1 s; to go on: dvc repro" in caplog.text
    assert "failed devices" in capsys.readouterr().err


def test_job_script_has_each_step_once_and_only_what_there_is() -> None:
    board = BoardConfig(precision="fp16", dla=1, environment={"A": "b c"})
    script = render_job(board, CONFIG, has_gesture=False)
    assert "export A='b c'" in script
    assert "|| { python3 -m deploy.evaluate" in script
    assert "--precision fp16 --dla 1" in script
    assert "build-gesture" not in script
    assert "--no-gesture" in script
    assert "build-gesture" in render_job(board, CONFIG, has_gesture=True)
    at_home = render_job(replace(board, python="~/my env/python"), CONFIG, has_gesture=False)
    assert """|| { "$HOME"/'my env/python' -m deploy.evaluate""" in at_home


def test_damaged_results_are_one_line() -> None:
    with pytest.raises(BoardError, match="orin: its results cannot be read"):
        read_results(b"no archive", TARGET)


def test_ssh_is_never_asked_to_ask() -> None:
    words = list(_ssh._options(BoardConfig(port=22)))
    assert "BatchMode=yes" in words
    assert "StrictHostKeyChecking=yes" in words
    assert words[-2:] == ["-p", "22"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "int4"}, "known: auto, int8"),
        ({"offline_s": 0.0}, "expected above 0"),
    ],
)
def test_senseless_board_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoardConfig(**changes)


def test_targets_without_this_machine_are_refused() -> None:
    with pytest.raises(ValueError, match="lacks this-machine"):
        DeviceConfig(targets=["orin"], boards={"orin": BoardConfig()})


@pytest.mark.parametrize("path", sorted(Path("conf/device").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_device_file_composes_and_names_its_command(path: Path, tmp_path: Path) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**params, "device": path.stem}))
    config = section_of(compose(tmp_path / "params.yaml", Path("conf")), DeviceConfig)
    assert path.stem in config.targets
    assert config.targets == ["this-machine", *config.boards]
    if path.stem in ("jetson-nano", "jetson-tx2"):
        assert config.boards[path.stem].precision == "fp16"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# What it is: ")
    assert lines[1].startswith("# Command: dvc ")


def test_tensorrt_here_is_built_and_measured_and_what_cannot_be_built_is_left_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the recorded TensorRT, of a GPU without INT8."""
    monkeypatch.setattr(tensorrt_kernel, "find_nvcc", lambda: None)
    use_device(monkeypatch, trt=make_tensorrt("8.5", fast_int8=False))
    monkeypatch.setattr(_engines, "installed_runtimes", lambda: ["tensorrt", "onnxruntime"])
    config = replace(
        CONFIG, runtimes=["tensorrt", "onnxruntime"], precisions=["int8", "fp16", "fp32"]
    )
    assert run_stage("engines", run, root, {"device": asdict(config)}, monkeypatch) == 0
    metrics = json.loads((root / "results" / "engines.json").read_text())
    names = ["onnxruntime_fp32", "onnxruntime_int8", "tensorrt_fp16", "tensorrt_fp32"]
    assert sorted(metrics) == names
    assert metrics["tensorrt_fp16"]["ap"] == metrics["onnxruntime_fp32"]["ap"]
    assert metrics["tensorrt_fp16"]["gesture_agreement"] == 1.0
    assert "no tensorrt int8 here" in caplog.text
    assert "has no INT8" in caplog.text
    built = root / "models" / "export" / "tensorrt"
    assert sorted(p.name for p in built.iterdir() if p.is_dir()) == ["fp16", "fp32"]
