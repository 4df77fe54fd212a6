"""The runtime's memory stays flat: engines, tracks, events, a video and a web page with clients.

The process that is measured is its own (tests/deploy/steady_run.py), this one watches its resident
memory. The index of an mp4, which OpenCV keeps until the end, grows by 73 bytes a frame, 4 MB in
half an hour. A leak of 10 KB a frame shows in a minute (it adds 8 MB), one of 100 bytes in half
an hour.
"""

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.tiny_models import write_classifier, write_detector

ROOT = Path(__file__).parents[2]
FPS = 30
PAGE_MB = 4096 / 2**20
EDGE_FRAC = 0.2  # the two ends of a series that are compared


def growth_mb(samples, *, after_s):
    """Growth of (seconds, MB) samples after so many seconds: median of the end minus the start's.

    Medians, because an allocator takes and gives back in steps.
    """
    values = np.array([mb for seconds, mb in samples if seconds >= after_s])
    edge = max(int(len(values) * EDGE_FRAC), 1)
    return float(np.median(values[-edge:]) - np.median(values[:edge]))


def resident_mb(pid):
    """Resident memory of a process, None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * PAGE_MB if pages else None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def visit(port, is_over):
    """Come and go as a browser's page does, until it is over: pictures for a while, metrics."""
    page = f"http://127.0.0.1:{port}"
    while not is_over.wait(1.0):
        with contextlib.suppress(OSError, HTTPException):
            urllib.request.urlopen(page + "/metrics", timeout=5).close()
            with urllib.request.urlopen(page + "/stream", timeout=5) as stream:
                stream.read(200000)


def write_models(folder):
    """Options that name real models, none where nothing writes or runs them."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        return []
    write_detector(folder / "detector")
    write_classifier(folder / "gesture")
    return ["--models", str(folder)]


def watch_run(folder, *, seconds):
    """Run for so long; return the (seconds, MB) samples and the numbers of frames and events."""
    port, is_over = free_port(), threading.Event()
    command = [sys.executable, "-m", "tests.deploy.steady_run", "--out", str(folder)]
    command += ["--seconds", str(seconds), "--fps", str(FPS), "--port", str(port)]
    command += write_models(folder)
    process = subprocess.Popen(
        command, cwd=str(ROOT), stdout=subprocess.PIPE, universal_newlines=True
    )
    client = threading.Thread(target=visit, args=(port, is_over))
    client.start()
    samples, started = [], time.perf_counter()
    try:
        while process.poll() is None:
            mb = resident_mb(process.pid)
            if mb is not None:
                samples.append((time.perf_counter() - started, mb))
            assert time.perf_counter() - started < 1.5 * seconds + 60
            time.sleep(0.2)
    finally:
        if process.poll() is None:
            process.kill()
        is_over.set()
        client.join()
        printed = process.communicate()[0]
    assert process.returncode == 0
    num_frames, num_events, _ = (int(word) for word in printed.split())
    return samples, num_frames, num_events


def test_growth_is_told_from_steps_and_spikes():
    flat = [(second, 100 + 3 * (second % 7 == 0)) for second in range(60)]
    leaking = [(second, mb + 0.1 * second) for second, mb in flat]
    warming = [(second, mb + 50 * (second >= 9)) for second, mb in flat]
    assert growth_mb(flat, after_s=10) == 0
    assert growth_mb(leaking, after_s=10) == pytest.approx(4.1, abs=0.5)
    assert growth_mb(warming, after_s=10) == 0
    assert growth_mb(warming, after_s=0) == 50


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_is_flat_within_a_minute(tmp_path):
    samples, num_frames, num_events = watch_run(tmp_path, seconds=50)
    assert num_frames > 0.8 * 50 * FPS
    assert num_events > 50
    assert growth_mb(samples, after_s=15) <= 2


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_is_flat_for_half_an_hour(tmp_path):
    samples, num_frames, num_events = watch_run(tmp_path, seconds=1800)
    assert num_frames > 0.95 * 1800 * FPS
    assert num_events > 2000
    assert growth_mb(samples, after_s=60) <= 5
