"""A stand-in for the CUDA driver's graphs (libcuda), written from the Driver API's documentation.

What the recorded pycuda and TensorRT would do on a stream goes through `do`: at once, or, while a
stream is captured, into the graph, whose launch does it.
"""

import ctypes

NOT_SUPPORTED = 801

_CAPTURED = []  # the work of the stream that is captured, in a list; empty where none is


def do(work):
    """Do the work, or record it."""
    if _CAPTURED:
        _CAPTURED[-1].append(work)
    else:
        work()


class RecordedLibrary:
    """libcuda. calls: the names of all functions called; held: graphs that are not given back;
    refuses: a function that says NOT_SUPPORTED; old: without CUDA 11.4's function."""

    def __init__(self, *, refuses="", old=False):
        self.calls = []
        self.held = {}
        self._refuses = refuses
        if old:
            self.cuGraphInstantiate = lambda *arguments: self._make(
                "cuGraphInstantiate", *arguments
            )
        else:
            self.cuGraphInstantiateWithFlags = lambda *arguments: self._make(
                "cuGraphInstantiateWithFlags", *arguments
            )

    def cuStreamBeginCapture_v2(self, stream, mode):
        assert stream.value == 7
        assert mode == 2
        if self._call("cuStreamBeginCapture_v2"):
            return NOT_SUPPORTED
        _CAPTURED.append([])
        return 0

    def cuStreamEndCapture(self, stream, graph):
        work = _CAPTURED.pop()
        if self._call("cuStreamEndCapture"):
            return NOT_SUPPORTED
        self._hold(graph, work)
        return 0

    def cuGraphLaunch(self, graph, stream):
        assert not _CAPTURED
        if self._call("cuGraphLaunch"):
            return NOT_SUPPORTED
        for work in self.held[graph.value]:
            work()
        return 0

    def cuGraphDestroy(self, graph):
        self._call("cuGraphDestroy")
        del self.held[graph.value]
        return 0

    def cuGraphExecDestroy(self, graph):
        self._call("cuGraphExecDestroy")
        del self.held[graph.value]
        return 0

    def _make(self, name, made, graph, *rest):
        assert len(rest) == (1 if name.endswith("WithFlags") else 3)
        if self._call(name):
            return NOT_SUPPORTED
        self._hold(made, self.held[graph.value])
        return 0

    def _hold(self, place, work):
        number = 1 + max(self.held, default=0)
        self.held[number] = work
        ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))[0] = number

    def _call(self, name):
        self.calls.append(name)
        return name == self._refuses
