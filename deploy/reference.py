"""What a network should answer on sample frames, to check a built engine against.

The answers are ONNX Runtime's, computed on the spot where it is installed; else those stored
beside the model by

    python -m deploy.build --model DIR --write-reference

on any machine that has it, in DIR/reference.npz. The frames are drawn, and equal every time.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.core.preprocess import images_to_batch

FILE_NAME = "reference.npz"
NUM_FRAMES = 4
FRAME_WH = (1280, 720)
# The files whose answers are kept: the one as exported, and the one that is rounded to 8 bits.
ROLES = ("fp32", "qdq")
SEPARATOR = "|"
# Largest 99th percentile of the differences, as a share of the outputs' range (at least 1).
TOLERANCES = {"fp32": 1e-3, "fp16": 1e-2, "int8": 0.1}
PERCENTILE = 99


class Reference(NamedTuple):
    """Answers by output name, (B, ...), and where they come from."""

    outputs: Mapping[str, np.ndarray]
    source: str


@functools.lru_cache(maxsize=2)
def sample_frames(num: int = NUM_FRAMES) -> Tuple[np.ndarray, ...]:
    """Draw frames (720, 1280, 3) uint8: soft coloured ground, blobs of skin colour, noise."""
    random = np.random.RandomState(0)
    width, height = FRAME_WH
    frames = []
    for _ in range(num):
        ground = random.randint(0, 256, (9, 16, 3)).astype(np.uint8)
        frame = cv2.resize(ground, FRAME_WH, interpolation=cv2.INTER_CUBIC)
        for _ in range(4):
            centre = (int(random.randint(width)), int(random.randint(height)))
            axes = (int(random.randint(30, 160)), int(random.randint(30, 160)))
            cv2.ellipse(
                frame, centre, axes, float(random.randint(180)), 0, 360, (120, 160, 215), -1
            )
        noise = random.randint(-8, 9, frame.shape)
        frames.append(np.clip(frame.astype(np.int16) + noise, 0, 255).astype(np.uint8))
    return tuple(frames)


def sample_batch(model: ModelInfo) -> np.ndarray:
    """Return the sample frames as the model's input (B, 3, H, W) float32."""
    return images_to_batch(sample_frames(), input_wh=model.input_wh, **model.preprocess._asdict())


def find_reference(
    model_dir: Path, model: ModelInfo, batch: np.ndarray, *, role: str
) -> Optional[Reference]:
    """Return the answers of the model's file of a role, or None where nothing can give them.

    Raises DeployError for a stored reference of another file.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        return Reference(compute(model_dir, batch, role=role), f"onnxruntime, {model.files[role]}")
    path = Path(model_dir) / FILE_NAME
    return read_reference(path, model, role=role) if path.is_file() else None


def compute(model_dir: Path, batch: np.ndarray, *, role: str) -> Dict[str, np.ndarray]:
    """Run a file of a model folder in ONNX Runtime, frame by frame to bound the memory."""
    from deploy.engine import open_engine

    precision = "int8" if role == "qdq" else "fp32"
    with open_engine(model_dir, runtime="onnxruntime", precision=precision) as engine:
        rows = [engine.infer(batch[index : index + 1]) for index in range(len(batch))]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def write_reference(model_dir: Path, model: ModelInfo) -> Path:
    """Write DIR/reference.npz: the answers of each file, with the file's SHA-256."""
    batch = sample_batch(model)
    stored: Dict[str, Any] = {}
    for role in ROLES:
        if role in model.files:
            stored[f"sha256{SEPARATOR}{role}"] = np.array(model.sha256[model.files[role]])
            answers = compute(model_dir, batch, role=role)
            stored.update({f"{role}{SEPARATOR}{name}": value for name, value in answers.items()})
    path = Path(model_dir) / FILE_NAME
    aside = path.with_name(path.name + ".part")
    with open(str(aside), "wb") as stream:
        np.savez_compressed(stream, **stored)
    aside.replace(path)
    return path


def read_reference(path: Path, model: ModelInfo, *, role: str) -> Reference:
    """Read the answers of a role. Raises DeployError for a damaged file or another model's."""
    name = model.files[role]
    try:
        with np.load(str(path)) as stored:
            values = {key: stored[key] for key in stored.files}
        sha256 = str(values[f"sha256{SEPARATOR}{role}"])
        outputs = {key: values[f"{role}{SEPARATOR}{key}"] for key in model.outputs}
    except (OSError, ValueError, KeyError) as error:
        raise DeployError(
            f"{path}: cannot be read: {error}; write it again with --write-reference"
        ) from None
    if sha256 != model.sha256.get(name):
        raise DeployError(
            f"{path}: is of another {name} (sha256 {sha256[:12]}...); write it again with "
            "--write-reference"
        )
    return Reference(outputs, f"{FILE_NAME}, {name}")


def compare(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> Dict[str, Dict[str, float]]:
    """Return by output the largest difference, the 99th percentile, and the reference's range.

    NaN in the outputs gives infinite differences.
    """
    return {name: _differences(outputs[name], reference[name]) for name in reference}


def find_fault(
    differences: Mapping[str, Mapping[str, float]], *, precision: str
) -> Optional[Tuple[str, float]]:
    """Return the first output whose 99th percentile is over the tolerance, and that tolerance."""
    for name, found in differences.items():
        allowed = TOLERANCES[precision] * max(1.0, found["range"])
        if not found["p99"] <= allowed:
            return name, allowed
    return None


def _differences(seen: np.ndarray, expected: np.ndarray) -> Dict[str, float]:
    if not np.isfinite(seen).all():
        return {"max": float("inf"), "p99": float("inf"), "range": float(np.abs(expected).max())}
    apart = np.abs(seen.astype(np.float64) - expected)
    return {
        "max": float(apart.max()),
        "p99": float(np.percentile(apart, PERCENTILE)),
        "range": float(np.abs(expected).max()),
    }
