"""What benchmarks.peers asks of other people's detectors, in the environment that has them.

Run by benchmarks.peers alone, as python -m benchmarks.peer_worker TASK, a JSON object; the last
line that it prints is JSON. It imports nothing of this project, so that benchmarks/peers.sh
installs nothing for it.

Ultralytics is used as its manual says: predict on the video file, stream, whatever threads it
takes. MediaPipe has no reader of its own: OpenCV's. Neither's time has loading and a first frame
in it.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import cv2
import numpy as np

IMGSZ = (384, 640)  # height, width: what a 16:9 picture becomes at 640
SPEED_CONFIDENCE = 0.25  # the default of predict
LEAST_CONFIDENCE = 0.001  # for average precision: all that may be right
MEDIAPIPE_LEAST = 0.1  # likewise; its default of 0.5 is for use
PACKAGES = ("ultralytics", "mediapipe", "onnxruntime", "torch", "numpy")

Rows = list[list[float]]  # x_min, y_min, x_max, y_max, confidence


def main() -> int:
    """Do the task of the command line; print its answer as the last line."""
    task = json.loads(sys.argv[1])
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    answer = TASKS[task.pop("do")](**task)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    return 0


def list_versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def export_yolo(name: str, weights: str | None, out: str) -> dict[str, Any]:
    """Write NAME as ONNX for pictures of IMGSZ; without weights random ones and one class.

    weights: .pt, or an .onnx that is taken as it is.
    """
    if weights is not None and weights.endswith(".onnx"):
        shutil.copyfile(weights, out)
        return {}
    from ultralytics import YOLO

    if weights is not None:  # it writes beside what it reads
        weights = shutil.copyfile(weights, f"{out}.pt")
    network = YOLO(weights or f"{name}.yaml", task="detect")
    if weights is None:
        _make_one_class(network, name)
    written = network.export(format="onnx", imgsz=IMGSZ, device="cpu")
    shutil.move(str(written), out)
    return {}


def _make_one_class(network: Any, name: str) -> None:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{name}.yaml", nc=1, verbose=False)
    model.args, model.task, model.names = network.model.args, "detect", {0: "hand"}
    network.model = model


def time_yolo(model: str, clip: str) -> dict[str, float]:
    """Frames per second of predict on a video: decoding to boxes."""
    from ultralytics import YOLO

    network = YOLO(model, task="detect")
    options = {"stream": True, "verbose": False, "device": "cpu", "imgsz": IMGSZ}
    for _ in network.predict(np.zeros((720, 1280, 3), np.uint8), **options):
        pass
    return _time(len(r.boxes) for r in network.predict(clip, conf=SPEED_CONFIDENCE, **options))


def detect_yolo(model: str, images: dict[str, str]) -> dict[str, Rows]:
    """Boxes of class hand (of the only class, where there is one) in each image."""
    from ultralytics import YOLO

    network = YOLO(model, task="detect")
    found = {}
    for stem, path in images.items():
        (result,) = network.predict(
            path, conf=LEAST_CONFIDENCE, verbose=False, device="cpu", imgsz=IMGSZ
        )
        hand = _hand_class(result.names)
        boxes = result.boxes[result.boxes.cls == hand]
        table = np.concatenate([boxes.xyxy.numpy(), boxes.conf.numpy()[:, None]], axis=1)
        found[stem] = table.astype(float).tolist()
    return found


def _hand_class(names: dict[int, str]) -> int:
    if len(names) == 1:
        return next(iter(names))
    for number, name in names.items():
        if name == "hand":
            return number
    raise SystemExit("the weights know no class named hand")


def time_mediapipe(clip: str, hands: int) -> dict[str, float]:
    """Frames per second of MediaPipe that follows up to so many hands: decoding to boxes."""
    with _open_hands(max_num_hands=hands) as network:
        network.process(np.zeros((720, 1280, 3), np.uint8))
        return _time(len(_boxes(network, image)) for image in _read_video(clip))


def detect_mediapipe(images: dict[str, str], hands: int) -> dict[str, Rows]:
    """Boxes around the 21 points of each hand, each image on its own."""
    options = {
        "static_image_mode": True,
        "max_num_hands": hands,
        "min_detection_confidence": MEDIAPIPE_LEAST,
    }
    with _open_hands(**options) as network:
        return {stem: _boxes(network, cv2.imread(path)) for stem, path in images.items()}


def _open_hands(**options: Any) -> Any:
    from mediapipe.python.solutions.hands import Hands

    return Hands(**options)


def _boxes(network: Any, image_bgr: np.ndarray) -> Rows:
    result = network.process(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB))
    height, width = image_bgr.shape[:2]
    rows = []
    for points, hand in zip(
        result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True
    ):
        x = [point.x * width for point in points.landmark]
        y = [point.y * height for point in points.landmark]
        rows.append([min(x), min(y), max(x), max(y), hand.classification[0].score])
    return rows


def _read_video(clip: str) -> Iterable[np.ndarray]:
    capture = cv2.VideoCapture(clip)
    while True:
        is_read, image = capture.read()
        if not is_read:
            capture.release()
            return
        yield image


def _time(num_found: Iterable[int]) -> dict[str, float]:
    started = time.perf_counter()
    counts = list(num_found)
    seconds = time.perf_counter() - started
    return {
        "frames": len(counts),
        "fps": len(counts) / seconds,
        "boxes_per_frame": sum(counts) / max(len(counts), 1),
    }


TASKS: dict[str, Callable[..., Any]] = {
    "versions": list_versions,
    "export_yolo": export_yolo,
    "time_yolo": time_yolo,
    "detect_yolo": detect_yolo,
    "time_mediapipe": time_mediapipe,
    "detect_mediapipe": detect_mediapipe,
}


if __name__ == "__main__":
    sys.exit(main())
