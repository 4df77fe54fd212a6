"""The two ways to run a TensorRT engine: binding indices (7.1 to 8.6) and named tensors (8.5 on).

Both have the same methods. `calls_for` takes named tensors where the engine has them: 8.5 has
both, 10 dropped the indices.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np

from deploy.core.errors import DeployError

DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


class Tensor(NamedTuple):
    """An input or output; shape has -1 for a free batch, and no batch axis is ever left out."""

    name: str
    is_input: bool
    shape: Tuple[int, ...]
    dtype: Any

    def sized(self, batch: int) -> Tuple[int, ...]:
        """Return the shape for a batch."""
        return (batch,) + self.shape[1:]


class NamedTensors:
    """TensorRT 8.5 and later: set_tensor_address, execute_async_v3."""

    def __init__(self, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context

    def tensors(self) -> List[Tensor]:
        """Return the engine's inputs and outputs."""
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return [
            Tensor(
                name,
                _word(engine.get_tensor_mode(name)) == "INPUT",
                tuple(engine.get_tensor_shape(name)),
                to_numpy(engine.get_tensor_dtype(name)),
            )
            for name in names
        ]

    def largest_batch(self, name: str) -> int:
        """Return the largest batch of the input's profile."""
        if hasattr(self._engine, "get_tensor_profile_shape"):
            return int(tuple(self._engine.get_tensor_profile_shape(name, 0)[2])[0])
        return int(tuple(self._engine.get_profile_shape(0, name)[2])[0])

    def enqueue(
        self, name: str, shape: Tuple[int, ...], addresses: Mapping[str, int], stream: int
    ) -> bool:
        """Run on a stream with device addresses by tensor; name, shape: the input's."""
        context = self._context
        if not context.set_input_shape(name, shape):
            return False
        if not all(context.set_tensor_address(key, value) for key, value in addresses.items()):
            return False
        return bool(context.execute_async_v3(stream))


class Bindings:
    """TensorRT 7.1 to 8.6: binding indices, execute_async_v2."""

    def __init__(self, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context
        count = engine.num_bindings
        self._index = {engine.get_binding_name(index): index for index in range(count)}

    def tensors(self) -> List[Tensor]:
        """Return the engine's inputs and outputs."""
        engine = self._engine
        return [
            Tensor(
                name,
                bool(engine.binding_is_input(index)),
                tuple(engine.get_binding_shape(index)),
                to_numpy(engine.get_binding_dtype(index)),
            )
            for name, index in self._index.items()
        ]

    def largest_batch(self, name: str) -> int:
        """Return the largest batch of the input's profile."""
        return int(tuple(self._engine.get_profile_shape(0, self._index[name])[2])[0])

    def enqueue(
        self, name: str, shape: Tuple[int, ...], addresses: Mapping[str, int], stream: int
    ) -> bool:
        """Run on a stream with device addresses by tensor; name, shape: the input's."""
        if not self._context.set_binding_shape(self._index[name], shape):
            return False
        ordered = [addresses[key] for key in self._index]
        return bool(self._context.execute_async_v2(bindings=ordered, stream_handle=stream))


API = {"named": NamedTensors, "bindings": Bindings}


def calls_for(engine: Any, context: Any, *, api: str = "auto") -> Any:
    """Return NamedTensors or Bindings; api: "auto", "named" or "bindings"."""
    if api == "auto":
        api = "named" if hasattr(engine, "num_io_tensors") else "bindings"
    return API[api](engine, context)


def split_tensors(
    tensors: List[Tensor], input_name: str, outputs: Mapping[str, Tuple[int, ...]]
) -> Tuple[Tensor, Dict[str, Tensor]]:
    """Return the input, and the outputs by their name in model.json.

    Raises DeployError for an engine that has other tensors or shapes than these.
    """
    bare = {tensor.name.split(":")[0]: tensor for tensor in tensors}
    found = bare.get(input_name)
    wanted = {name: bare[name] for name in outputs if name in bare}
    fits = all(wanted[name].shape[1:] == tuple(outputs[name]) for name in wanted)
    if found is None or len(wanted) < len(outputs) or not fits or not found.is_input:
        seen = {tensor.name: list(tensor.shape) for tensor in tensors}
        raise DeployError(
            f"engine has the tensors {seen}, model.json says {input_name} -> "
            f"{ {name: list(shape) for name, shape in outputs.items()} }"
        )
    return found, wanted


def to_numpy(dtype: Any) -> Any:
    """Return NumPy's type; trt.nptype fails with NumPy 1.24 up to TensorRT 8.4 (np.bool)."""
    return DTYPES[_word(dtype)]


def _word(member: Any) -> str:
    """Name of an enum's member, pybind11's or Python's."""
    return str(member).rsplit(".", 1)[-1]
