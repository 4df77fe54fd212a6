"""Renew the pictures of the README from the results of the last pipeline run.

Run: python -m docs.pictures [contact-sheet] [preview] [mlflow] (all by default; 1 minute)
- contact-sheet: docs/images/hands.jpg, drawn afresh.
- preview: docs/images/preview.gif from results/report/demo.mp4.
- mlflow: docs/images/mlflow.png, MLflow's own page comparing the two newest complete parent
  runs, photographed by headless Chromium (make browser).
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image

from deploy.core.errors import UserError

IMAGES = Path("docs/images")
PORT = 5077
SERVER_START_S = 90
PAGE_WH = (1500, 1000)
GIF_WIDTH, GIF_STEP, GIF_FRAMES, GIF_FRAME_MS = 480, 1, 40, 100


def contact_sheet() -> Path:
    """Draw the contact sheet of rendered hands."""
    target = IMAGES / "hands.jpg"
    command = [sys.executable, "-m", "stages.datasets.render.contact_sheet", "--out", str(target)]
    subprocess.run(command, check=True, timeout=300)
    return target


def preview() -> Path:
    """Turn the annotated clip of the report into a small GIF, which every browser plays."""
    clip = Path("results/report/demo.mp4")
    frames = [Image.fromarray(frame) for frame in read_frames(clip)]
    if not frames:
        raise UserError(f"{clip} has no frames; run: make repro")
    small = [
        f.quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for f in frames
    ]
    target = IMAGES / "preview.gif"
    options = {"duration": GIF_FRAME_MS, "loop": 0, "optimize": True}
    small[0].save(target, save_all=True, append_images=small[1:], **options)
    return target


def read_frames(clip: Path) -> Iterator["cv2.typing.MatLike"]:
    """Yield every GIF_STEP-th frame as RGB, GIF_WIDTH wide, GIF_FRAMES at the most."""
    capture = cv2.VideoCapture(str(clip))
    for index in range(GIF_STEP * GIF_FRAMES):
        there, frame = capture.read()
        if not there:
            break
        if index % GIF_STEP == 0:
            height = round(frame.shape[0] * GIF_WIDTH / frame.shape[1])
            small = cv2.resize(frame, (GIF_WIDTH, height), interpolation=cv2.INTER_AREA)
            yield cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    capture.release()


def mlflow_page() -> Path:
    """Photograph MLflow's comparison of the two newest complete parent runs."""
    from stages._config import RESOLVED, load_resolved, section_of
    from stages._schema import TrackingConfig
    from stages._tracking import connect, experiment_id

    config = section_of(load_resolved(RESOLVED), TrackingConfig)
    client = connect(config)
    experiment = experiment_id(client, config)
    runs = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    complete = [r.info.run_id for r in runs if "evaluate/export/ap50" in r.data.metrics]
    parents = [
        run for run in complete if "mlflow.parentRunId" not in client.get_run(run).data.tags
    ]
    if len(parents) < 2:
        raise UserError(
            f"{len(parents)} complete parent runs, two are compared; "
            "run a second pipeline, for example: dvc exp run -S +overrides.train.epochs=6"
        )
    query = urllib.parse.urlencode(
        {"runs": json.dumps(parents[:2]), "experiments": json.dumps([experiment])},
        quote_via=urllib.parse.quote,
    )
    target = IMAGES / "mlflow.png"
    with serve_mlflow() as address:
        photograph(f"{address}/#/compare-runs?{query}", target)
    return target


@contextlib.contextmanager
def serve_mlflow() -> Iterator[str]:
    """Serve the local store on this machine until the block ends; yield the address."""
    command = [
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{Path('mlflow.db').resolve()}",
    ]
    command += ["--host", "127.0.0.1", "--port", str(PORT), "--workers", "1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{PORT}"
    try:
        wait_until_up(address)
        yield address
    finally:
        import psutil

        children = psutil.Process(server.pid).children(recursive=True)
        for process in (server, *children):
            process.terminate()
        server.wait(timeout=20)


def wait_until_up(address: str) -> None:
    """Return when the server answers; UserError after SERVER_START_S seconds."""
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{address}/health", timeout=5)
            return
        time.sleep(0.5)
    raise UserError(
        f"MLflow did not answer on {address} within {SERVER_START_S} s; is the port taken?"
    )


def photograph(address: str, target: Path) -> None:
    """Save a page as PNG once it has had time to load its data."""
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        raise UserError("no Chromium found; install it: make browser")
    with tempfile.TemporaryDirectory() as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
        ]
        flags += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        flags += [f"--user-data-dir={profile}", "--virtual-time-budget=30000"]
        flags += [f"--window-size={PAGE_WH[0]},{PAGE_WH[1]}", f"--screenshot={target.resolve()}"]
        subprocess.run([browser, *flags, address], check=True, timeout=180, capture_output=True)


PICTURES = {"contact-sheet": contact_sheet, "preview": preview, "mlflow": mlflow_page}


def main() -> int:
    """Renew the named pictures; return the exit status."""
    parser = argparse.ArgumentParser("python -m docs.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="which (default: all)")
    IMAGES.mkdir(parents=True, exist_ok=True)
    try:
        for name in parser.parse_args().names or PICTURES:
            target = PICTURES[name]()
            sys.stderr.write(f"{target}: {target.stat().st_size / 1000:.0f} kB\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
