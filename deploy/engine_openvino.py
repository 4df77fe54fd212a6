"""Networks in OpenVINO on the CPU (2023.1 and later).

The batch axis stays dynamic: one compiled network serves every batch size as fast as one compiled
for that size alone (OpenVINO 2026.4.1, INT8 ResNet10 320x192 and a 12-layer 160x160 network, batch
1, 2 and 4), and a second hand in the picture costs no compilation.
"""

from pathlib import Path
from typing import Dict

import numpy as np
import openvino

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo


class OpenVinoNetwork:
    """An ONNX file, FP32 or Q/DQ, compiled for the CPU."""

    device = "CPU"

    def __init__(self, path: Path, model: ModelInfo, *, bf16: bool, threads: int) -> None:
        """Read and compile `path`. Raises DeployError when OpenVINO cannot.

        bf16: compute what is not INT8 in bfloat16, which is faster and less exact.
        """
        self.version = str(openvino.__version__).split("-")[0]
        if not hasattr(openvino, "Core"):
            raise DeployError(
                f"openvino {self.version} is too old, expected 2023.1 or later; "
                "run: pip install -U openvino, or use --runtime onnxruntime"
            )
        self._input = model.input_name
        try:
            self._compiled = openvino.Core().compile_model(
                str(path), self.device, _properties(bf16=bf16, threads=threads)
            )
            self._outputs = {name: self._compiled.output(name) for name in model.outputs}
        except RuntimeError as error:
            raise DeployError(
                f"{path}: openvino {self.version} cannot load it: "
                f"{' '.join(str(error).split())}; export the model again"
            ) from error
        self._request = self._compiled.create_infer_request()

    def infer(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        """Run a batch (B, 3, H, W) float32; return copies of the outputs by name."""
        results = self._request.infer({self._input: batch}, share_inputs=True)
        return {name: results[port] for name, port in self._outputs.items()}

    def close(self) -> None:
        """Free the compiled network."""
        del self._request, self._outputs, self._compiled


def _properties(*, bf16: bool, threads: int) -> Dict[str, object]:
    # Without the hint OpenVINO computes FP32 files in bfloat16 on processors that have it.
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
