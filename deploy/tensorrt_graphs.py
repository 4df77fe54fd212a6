"""A network's runs as CUDA graphs: the first ones as they are, then recorded, then replayed.

A graph is good for the very buffers and shapes that it was recorded with, and TensorRT wants the
context's shapes unchanged since then (developer guide, "CUDA Graphs"). So graphs are kept while
the number of rows stays, and thrown away when it changes: a detector's never do, a classifier's
when hands come and go.
"""

import logging
from typing import Any, Callable, Dict, Optional

from deploy.cuda_graph import Graph, GraphDriver, GraphError

LOGGER = logging.getLogger(__name__)

# TensorRT wants a run of the shape before it is recorded; more, so that changes cost little.
PLAIN_RUNS = 3


class Replays:
    """The graphs of one network on its stream. The context must be current wherever called."""

    def __init__(self, driver: Optional[GraphDriver], stream: Any) -> None:
        """driver: None for no graphs at all."""
        self._driver = driver
        self._stream = stream
        self._graphs: Dict[Any, Graph] = {}
        self._rows = 0
        self._num_runs = 0

    def run(self, slot: Any, rows: int, work: Callable[[], None]) -> None:
        """Do what `work` puts on the stream for so many rows in the buffers `slot`, a key."""
        if self._driver is None:
            work()
            return
        if rows != self._rows:
            self.forget()
            self._rows = rows
        graph = self._graphs.get(slot)
        if graph is None and self._num_runs >= PLAIN_RUNS:
            graph = self._record(slot, work)
        if graph is None:
            work()
            self._num_runs += 1
        else:
            graph.launch(self._stream.handle)

    def forget(self) -> None:
        """Throw all graphs away, because the network's shapes change or its memory goes."""
        graphs, self._graphs = self._graphs, {}
        self._rows = self._num_runs = 0
        if graphs:
            self._stream.synchronize()
        for graph in graphs.values():
            graph.free()

    def _record(self, slot: Any, work: Callable[[], None]) -> Optional[Graph]:
        assert self._driver is not None
        try:
            graph = self._graphs[slot] = self._driver.capture(self._stream.handle, work)
            return graph
        except GraphError as error:
            LOGGER.warning("runs without CUDA graphs: %s", error)
            self.forget()
            self._driver = None
            return None
