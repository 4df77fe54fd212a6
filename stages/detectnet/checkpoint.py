"""Model folders of the open backend: models/{train,prune,retrain}/ hold model.pt and model.json.

model.pt is a torch.save file of plain values and tensors alone (loads with weights_only=True):
`schema`; `architecture`, the fields of model.Architecture; `folded`, whether the convolutions
contain the batch normalisation; `state_dict`; and `ranges`, the quantizers' largest absolute
values by name (see rounding.py) or null for a float network. Equal networks give equal bytes.
"""

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deploy.core.cluster import Postprocess
from deploy.core.grid import Grid
from deploy.core.model_json import ModelInfo, add_sha256, write_model_json
from deploy.core.preprocess import Preprocess
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import drop_batch_norm, is_folded
from stages.detectnet.model import STRIDE, Architecture, DetectNet
from stages.detectnet.quantization import is_quantized, read_ranges, strip_quantizers
from stages.detectnet.rounding import round_model

FILE_NAME = "model.pt"
SCHEMA_VERSION = 1
INPUT, COVERAGE, BBOX = "input_1", "output_cov/Sigmoid", "output_bbox/BiasAdd"


class Checkpoint(NamedTuple):
    """A stored network: the float model, and the ranges of its 8-bit form or None."""

    model: DetectNet
    ranges: dict[str, torch.Tensor] | None


def save_model(
    folder: Path,
    model: DetectNet,
    *,
    postprocess: Postprocess,
    ranges: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write model.pt and model.json of a float or quantized network into an existing folder.

    A network with modelopt's quantizers brings its ranges; a folded float one may be given some.
    """
    plain = model
    if is_quantized(model):
        plain, ranges = strip_quantizers(model), read_ranges(model)
    payload = {
        "schema": SCHEMA_VERSION,
        "architecture": dataclasses.asdict(plain.architecture),
        "folded": is_folded(plain),
        "state_dict": _plain_state(plain),
        "ranges": None if ranges is None else dict(ranges),
    }
    torch.save(payload, folder / FILE_NAME)
    files = {"torch": FILE_NAME}
    write_model_json(folder, detector_info(folder, model.architecture, files, postprocess))


def load_model(folder: Path) -> DetectNet:
    """Read a network in eval mode on the CPU; a quantized one rounds as its ranges say.

    Raises DetectNetError for a missing, damaged or foreign model.pt.
    """
    model, ranges = load_checkpoint(folder)
    return model if ranges is None else round_model(model, ranges)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the float network and its ranges apart. Raises DetectNetError as load_model does."""
    path = folder / FILE_NAME
    payload = _read_payload(path)
    try:
        model = DetectNet(Architecture(**payload["architecture"]))
        if payload["folded"]:
            drop_batch_norm(model)
        model.load_state_dict(payload["state_dict"])
        return Checkpoint(model.eval(), payload["ranges"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DetectNetError(
            f"{path} does not fit this program ({reason}); run the stage that wrote it again"
        ) from error


def detector_info(
    folder: Path, architecture: Architecture, files: dict[str, str], postprocess: Postprocess
) -> ModelInfo:
    """Describe a detector for model.json; `files` (name by role) must lie in `folder`."""
    width, height = architecture.input_wh
    rows, columns = height // STRIDE, width // STRIDE
    info = ModelInfo(
        kind="detector",
        name="hand-detector",
        files=files,
        input_name=INPUT,
        input_shape=(3, height, width),
        outputs={
            COVERAGE: (architecture.num_classes, rows, columns),
            BBOX: (4 * architecture.num_classes, rows, columns),
        },
        preprocess=Preprocess(
            color="rgb", scale=1.0 / 255.0, offset=(0.0, 0.0, 0.0), resize="stretch"
        ),
        classes=("hand",),
        grid=Grid(stride=STRIDE),
        postprocess=postprocess,
        versions={"torch": torch.__version__.split("+")[0]},
    )
    return add_sha256(folder, info)


def _plain_state(model: DetectNet) -> dict[str, torch.Tensor]:
    # Storage of their own, contiguous and on the CPU: views and strides would change the bytes.
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _read_payload(path: Path) -> dict[str, Any]:
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DetectNetError(
            f"{path} is not there; run the stages before: dvc repro, or dvc checkout"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DetectNetError(
            f"{path} is not a model file or is damaged; restore it: dvc checkout {path.parent}"
        ) from error
    version = payload.get("schema") if isinstance(payload, dict) else None
    if version != SCHEMA_VERSION:
        raise DetectNetError(
            f"{path} has schema {version!r}, this program reads {SCHEMA_VERSION}; "
            "run the stage that wrote it again"
        )
    return payload
