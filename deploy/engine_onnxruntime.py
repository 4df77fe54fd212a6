"""Networks in ONNX Runtime on the CPU (1.9 and later)."""

from pathlib import Path
from typing import Dict

import numpy as np
import onnxruntime

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo

ERROR_SEVERITY = 3


class OnnxRuntimeNetwork:
    """An ONNX file in an inference session; the batch axis is dynamic by itself."""

    device = "CPU"

    def __init__(self, path: Path, model: ModelInfo, *, threads: int) -> None:
        """Load `path`. Raises DeployError when ONNX Runtime cannot read it."""
        self.version = str(onnxruntime.__version__)
        self._input = model.input_name
        self._outputs = list(model.outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERROR_SEVERITY
        # Waiting threads would else burn the processors that decoding and encoding need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no public base class
            raise DeployError(
                f"{path}: onnxruntime {self.version} cannot load it: "
                f"{' '.join(str(error).split())}; export the model again"
            ) from error

    def infer(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        """Run a batch (B, 3, H, W) float32; return the outputs by name."""
        values = self._session.run(self._outputs, {self._input: batch})
        return dict(zip(self._outputs, values))

    def close(self) -> None:
        """Free the session."""
        del self._session
