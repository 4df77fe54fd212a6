"""Run a model folder of the open backend, with the interface of deploy's engines."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from deploy.core.model_json import read_model_json
from stages.detectnet.checkpoint import load_checkpoint
from stages.detectnet.model import DetectNet
from stages.detectnet.model_info import BBOX, COVERAGE
from stages.detectnet.rounding import round_model


class TorchModel:
    """A loaded detector; made by open_torch_model."""

    def __init__(self, model: DetectNet, *, name: str, precision: str, device: str) -> None:
        self._model = model.to(device)
        self._device = device
        self._info: dict[str, object] = {
            "runtime": "torch",
            "version": torch.__version__,
            "model": name,
            "precision": precision,
            "device": device,
        }

    def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Return the output maps by tensor name; batch: (B, 3, H, W) float32, preprocessed."""
        images = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        with torch.inference_mode():
            coverage, bbox = self._model(images)
        return {COVERAGE: coverage.cpu().numpy(), BBOX: bbox.cpu().numpy()}

    def info(self) -> dict[str, object]:
        """Say what runs: runtime, version, model, precision (fp32 or int8, emulated), device."""
        return dict(self._info)


@contextlib.contextmanager
def open_torch_model(folder: Path, *, device: str = "cpu") -> Iterator[TorchModel]:
    """Load models/{train,prune,retrain}; a quantized one rounds as the exported one will.

    Raises DetectNetError or DeployError for a missing or damaged model.pt or model.json.
    """
    name = read_model_json(folder).name
    model, ranges = load_checkpoint(folder)
    precision = "fp32" if ranges is None else "int8"
    runnable = model if ranges is None else round_model(model, ranges)
    yield TorchModel(runnable, name=name, precision=precision, device=device)
