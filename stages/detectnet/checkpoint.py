"""Model folders of the open backend: models/{train,prune,retrain}/ hold model.pt and model.json.

model.pt is a torch.save file of plain values and tensors alone (loads with weights_only=True):
`schema`; `architecture`, the fields of model.Architecture; `folded`, whether the convolutions
contain the batch normalisation; `state_dict`; and `ranges`, the quantizers' largest absolute
values by name (see rounding.py) or null for a float network. Equal networks give equal bytes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from deploy.core.cluster import Postprocess
from deploy.core.model_json import ModelInfo, hash_file, read_model_json, write_model_json
from stages.detectnet.errors import DetectNetError
from stages.detectnet.folding import drop_batch_norm, is_folded
from stages.detectnet.model import Architecture, DetectNet
from stages.detectnet.model_info import describe_detector
from stages.detectnet.quantization import is_quantized, read_ranges, strip_quantizers
from stages.detectnet.rounding import check_ranges, round_model
from stages.detectnet.torch_file import read_torch_file

FILE_NAME = "model.pt"
SCHEMA_VERSION = 1
KEYS = ("architecture", "folded", "state_dict", "ranges")


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


def load_float_model(folder: Path) -> DetectNet:
    """Read a network that is not quantized, in eval mode on the CPU.

    Raises DetectNetError as load_model does, and for an 8-bit network.
    """
    model, ranges = load_checkpoint(folder)
    if ranges is not None:
        raise DetectNetError(
            f"{folder / FILE_NAME} is an 8-bit network, expected a float one; write it again: "
            f"dvc repro {folder.name}"
        )
    return model


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the float network and its ranges apart. Raises DetectNetError as load_model does."""
    path = folder / FILE_NAME
    payload = _read_payload(path)
    try:
        _check_keys(payload)
        model = DetectNet(Architecture(**payload["architecture"]))
        if payload["folded"]:
            drop_batch_norm(model)
        _check_state(model, payload["state_dict"])
        model.load_state_dict(payload["state_dict"])
        if payload["ranges"] is not None:
            check_ranges(model, payload["ranges"])
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DetectNetError(
            f"{path} does not fit this program ({reason}); run the stage that wrote it again"
        ) from error
    if read_model_json(folder).sha256.get(FILE_NAME) != hash_file(path):
        raise DetectNetError(
            f"{path} is not the file that model.json beside it describes; restore both: "
            f"dvc checkout {folder}, or run the stage that wrote them again"
        )
    return Checkpoint(model.eval(), payload["ranges"])


def detector_info(
    folder: Path, architecture: Architecture, files: dict[str, str], postprocess: Postprocess
) -> ModelInfo:
    """Describe a network of the open backend; `files` (name by role) must lie in `folder`."""
    width, height = architecture.input_wh
    return describe_detector(
        folder,
        input_wh=(width, height),
        files=files,
        postprocess=postprocess,
        versions={"torch": torch.__version__.split("+")[0]},
        num_classes=architecture.num_classes,
    )


def _plain_state(model: DetectNet) -> dict[str, torch.Tensor]:
    # Storage of their own, contiguous and on the CPU: views and strides would change the bytes.
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def _check_keys(payload: Mapping[str, object]) -> None:
    missing = [key for key in KEYS if key not in payload]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _check_state(model: DetectNet, state: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError for the first tensor that is not what the channel table says."""
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name, shape in wanted.items():
        if name not in state:
            raise ValueError(f"{name} is missing")
        if tuple(state[name].shape) != shape:
            seen = tuple(state[name].shape)
            raise ValueError(f"{name} has the shape {seen}, its architecture says {shape}")
    for name in state:
        if name not in wanted:
            raise ValueError(f"{name} is not in its architecture")


def _read_payload(path: Path) -> dict[str, Any]:
    try:
        payload = read_torch_file(
            path,
            kind="model file",
            keys=["schema"],
            remedy=f"restore it: dvc checkout {path.parent}",
        )
    except FileNotFoundError as error:
        raise DetectNetError(
            f"{path} is not there; run the stages before: dvc repro, or dvc checkout"
        ) from error
    if payload["schema"] != SCHEMA_VERSION:
        raise DetectNetError(
            f"{path} has schema {payload['schema']!r}, this program reads {SCHEMA_VERSION}; "
            "run the stage that wrote it again"
        )
    return payload
