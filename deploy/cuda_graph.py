"""CUDA graphs: what was put on a stream once is started again with a single call.

A network is some fifty kernels, and starting each costs the CPU a few microseconds: on a quick GPU
more than they take. pycuda has no graphs, so the driver's own functions are called here by ctypes.
Source: CUDA Driver API, "Stream Management" and "Graph Management" (CUDA 10.1 and later).
"""

import ctypes
import os
from typing import Any, Callable, Optional, Tuple

from deploy.core.errors import DeployError

LIBRARY = "libcuda.so.1"
SWITCH = "DEPLOY_CUDA_GRAPHS"
# CU_STREAM_CAPTURE_MODE_RELAXED: other threads, which upload frames, are not held up.
RELAXED = 2
# By age: CUDA 11.4, 11.0 and 10.0. The first takes flags, the others take room for a message.
INSTANTIATE = ("cuGraphInstantiateWithFlags", "cuGraphInstantiate_v2", "cuGraphInstantiate")
OTHERS = (
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphLaunch",
)


class GraphError(DeployError):
    """The driver or the work refuses to become a graph; the message is one line."""


class Graph:
    """Recorded work. `launch` and `free` want the context to be current."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    def launch(self, stream: int) -> None:
        """Put it on a stream (its handle) and return at once. Raises GraphError."""
        _check("cuGraphLaunch", self._library.cuGraphLaunch(self._handle, _pointer(stream)))

    def free(self) -> None:
        """Give it back, no launch of it being under way; a second call does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _check("cuGraphExecDestroy", self._library.cuGraphExecDestroy(handle))


class GraphDriver:
    """The driver's functions for graphs; `open_driver` finds them."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def capture(self, stream: int, work: Callable[[], None]) -> Graph:
        """Call `work`, which puts something on the stream, and return that as a graph, not run.

        Raises GraphError where it cannot be recorded, DeployErrors of `work` included; the stream
        is as before then.
        """
        handle = _pointer(stream)
        begun = self._library.cuStreamBeginCapture_v2(handle, RELAXED)
        _check("cuStreamBeginCapture_v2", begun)
        graph = ctypes.c_void_p()
        try:
            try:
                work()
            finally:
                ended = self._library.cuStreamEndCapture(handle, ctypes.byref(graph))
            _check("cuStreamEndCapture", ended)
            return Graph(self._library, self._instantiate(graph))
        except DeployError as error:
            raise GraphError(str(error)) from None
        finally:
            if graph.value:
                self._library.cuGraphDestroy(graph)

    def _instantiate(self, graph: Any) -> Any:
        name = next(name for name in INSTANTIATE if hasattr(self._library, name))
        rest: Tuple[Any, ...] = (None, None, ctypes.c_size_t(0))
        if name == INSTANTIATE[0]:
            rest = (ctypes.c_ulonglong(0),)
        made = ctypes.c_void_p()
        _check(name, getattr(self._library, name)(ctypes.byref(made), graph, *rest))
        return made


def open_driver() -> Optional[GraphDriver]:
    """Return the driver's graphs; None where there is no driver, or one older than CUDA 10.1, and
    where the environment says DEPLOY_CUDA_GRAPHS=0."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    has_all = all(hasattr(library, name) for name in OTHERS)
    if has_all and any(hasattr(library, name) for name in INSTANTIATE):
        return GraphDriver(library)
    return None


def _pointer(handle: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(handle)


def _check(function: str, status: int) -> None:
    if status != 0:
        raise GraphError(f"{function} gives CUDA error {status}")
