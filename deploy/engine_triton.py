"""Networks on a Triton server, through NVIDIA's client, by gRPC or HTTP (KServe protocol v2).

    --engine triton://host:8001            gRPC
    --engine triton+http://host:8000       HTTP
    --engine triton://host:8001?timeout_s=0.5

The server has each model under the name in its model.json, as `deploy.render --target triton` and
`--target deepstream` lay them out. Pre- and post-processing stay here.
Protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import contextlib
import importlib
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo, read_model_json
from deploy.engine import Engine, Plan

URI = re.compile(r"triton(\+http)?://([^\s/?]+:\d+)/?(?:\?timeout_s=([0-9.]+))?$")
DEFAULT_TIMEOUT_S = 5.0
LARGEST_BATCH = 64


class Address(NamedTuple):
    """Where a server is: transport "grpc" or "http"; timeout_s of each request, in seconds."""

    uri: str
    transport: str
    host_port: str
    timeout_s: float


def parse_address(uri: str) -> Address:
    """Return the address in a URI. Raises DeployError, which shows the form, for another one."""
    match = URI.match(uri)
    timeout_s = _timeout_s(match.group(3)) if match else 0.0
    if match is None or not timeout_s > 0:
        raise DeployError(
            f"engine {uri!r} is no server; expected triton://HOST:8001 (gRPC) or "
            "triton+http://HOST:8000, optionally with ?timeout_s=SECONDS"
        )
    return Address(uri, "http" if match.group(1) else "grpc", match.group(2), timeout_s)


@contextlib.contextmanager
def open_triton_engine(model_dir: Path, uri: str) -> Iterator[Engine]:
    """Connect a model folder's model.json with its model on a server; the block gets the Engine.

    Raises DeployError, one line, when the client is not installed, the server does not answer in
    time, has no such model or has not loaded it, or has tensors other than model.json says.
    """
    model = read_model_json(Path(model_dir))
    network = TritonNetwork(parse_address(uri), model)
    plan = Plan("triton", "server", model.name, f"on {uri}")
    try:
        yield Engine(network, model, plan, threads=0)
    finally:
        network.close()


class TritonNetwork:
    """One model on a server. Batches above the server's limit are sent in parts."""

    def __init__(self, address: Address, model: ModelInfo) -> None:
        """Connect and compare. Raises DeployError as open_triton_engine does."""
        self.device = address.uri
        self._address = address
        self._model = model
        self._client_module = _import_client(address.transport)
        self._client = self._connect()
        try:
            self.version = str(self._ask(self._server_version))
            self._check_ready()
            self._check_tensors()
            self._max_batch = self._ask(self._largest_batch)
        except DeployError:
            self.close()
            raise

    def infer(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        """Run a batch (B, 3, H, W) float32, B > 0; return the outputs (B, ...) float32 by name.

        Raises DeployError when the server refuses, is gone, or does not answer in time.
        """
        parts = [
            self._ask(self._infer_part, batch[start : start + self._max_batch])
            for start in range(0, len(batch), self._max_batch)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _connect(self) -> Any:
        if self._address.transport == "grpc":
            return self._client_module.InferenceServerClient(self._address.host_port)
        return self._client_module.InferenceServerClient(
            self._address.host_port,
            connection_timeout=self._address.timeout_s,
            network_timeout=self._address.timeout_s,
        )

    def _ask(self, function: Any, *arguments: Any) -> Any:
        """Call the client, and turn what it may raise into one line with the next step."""
        from tritonclient.utils import InferenceServerException

        try:
            return function(*arguments)
        except InferenceServerException as error:
            raise self._failed(str(error.status() or ""), str(error.message())) from error
        except OSError as error:  # HTTP: refused, reset, timed out
            timed_out = "timed out" in str(error)
            status = "DEADLINE_EXCEEDED" if timed_out else "UNAVAILABLE"
            raise self._failed(status, str(error)) from error

    def _failed(self, status: str, message: str) -> DeployError:
        uri, name = self._address.uri, self._model.name
        detail = " ".join(message.split())
        if "DEADLINE" in status or "Deadline Exceeded" in detail:
            return DeployError(
                f"{uri}: no answer for {name} in {self._address.timeout_s:g} s; is the server "
                "overloaded? wait longer with ?timeout_s=SECONDS"
            )
        if "UNAVAILABLE" in status:
            return DeployError(
                f"{uri}: the server does not answer ({detail}); start it, or mend host and port"
            )
        return DeployError(f"{uri}: the server refuses {name}: {detail}")

    def _check_ready(self) -> None:
        name, uri = self._model.name, self._address.uri
        if not self._ask(lambda: self._client.is_model_ready(name, **self._deadline())):
            raise DeployError(
                f"{uri}: model {name} is not ready on the server; load it, or wait until its log "
                "says READY (python -m deploy.render --target triton writes its repository)"
            )

    def _check_tensors(self) -> None:
        metadata = self._ask(self._metadata)
        expected = {self._model.input_name: list(self._model.input_shape)}
        expected.update({name: list(shape) for name, shape in self._model.outputs.items()})
        seen = {tensor["name"]: tensor for tensor in metadata["inputs"] + metadata["outputs"]}
        for name, shape in expected.items():
            found = seen.get(name)
            actual = [int(extent) for extent in found["shape"]] if found else []
            if found is None or found["datatype"] != "FP32" or not _fits(actual, shape):
                shown = "missing" if found is None else f"{found['datatype']} {actual}"
                raise DeployError(
                    f"{self._address.uri}: tensor {name} of {self._model.name} is {shown} on the "
                    f"server, model.json says FP32 {[-1] + shape}; render its repository again"
                )

    def _deadline(self) -> Dict[str, float]:
        is_grpc = self._address.transport == "grpc"
        return {"client_timeout": self._address.timeout_s} if is_grpc else {}

    def _json(self) -> Dict[str, Any]:
        """Return what makes gRPC answer with dictionaries, as HTTP does by itself."""
        is_grpc = self._address.transport == "grpc"
        return dict(self._deadline(), as_json=True) if is_grpc else {}

    def _server_version(self) -> str:
        return self._client.get_server_metadata(**self._json())["version"]

    def _metadata(self) -> Dict[str, List[Dict[str, Any]]]:
        return self._client.get_model_metadata(self._model.name, **self._json())

    def _largest_batch(self) -> int:
        config = self._client.get_model_config(self._model.name, **self._json())
        limit = int(config.get("config", config).get("max_batch_size", 0))
        return limit if limit > 0 else LARGEST_BATCH

    def _infer_part(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        module = self._client_module
        tensor = module.InferInput(self._model.input_name, list(batch.shape), "FP32")
        tensor.set_data_from_numpy(np.ascontiguousarray(batch))
        names = list(self._model.outputs)
        asked = [module.InferRequestedOutput(name) for name in names]
        result = self._client.infer(self._model.name, [tensor], outputs=asked, **self._deadline())
        return {name: self._checked(name, result.as_numpy(name), len(batch)) for name in names}

    def _checked(self, name: str, value: Any, num: int) -> np.ndarray:
        expected = (num,) + tuple(self._model.outputs[name])
        if value is None or value.shape != expected:
            shape = None if value is None else value.shape
            raise DeployError(
                f"{self._address.uri}: output {name} of {self._model.name} is {shape}, expected "
                f"{expected}; render its repository again"
            )
        return value.astype(np.float32, copy=False)


def _fits(actual: List[int], shape: List[int]) -> bool:
    """Whether a server's shape, which may begin with the batch, stands for model.json's."""
    without_batch = actual[1:] if len(actual) == len(shape) + 1 else actual
    return len(without_batch) == len(shape) and all(
        seen in (-1, wanted) for seen, wanted in zip(without_batch, shape)
    )


def _timeout_s(text: Optional[str]) -> float:
    """Return the seconds in a URI, the default without any, 0 for what is no number."""
    if text is None:
        return DEFAULT_TIMEOUT_S
    return float(text) if re.match(r"\d+\.?\d*$|\.\d+$", text) else 0.0


def _import_client(transport: str) -> Any:
    try:
        return importlib.import_module("tritonclient." + transport)
    except (ImportError, RuntimeError) as error:  # the latter for a client of the other transport
        raise DeployError(
            f"the client of Triton is not installed ({error}); "
            f"run: {sys.executable} -m pip install 'tritonclient[{transport}]'"
        ) from None
