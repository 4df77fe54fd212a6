"""A network's runs as CUDA graphs: the first ones as they are, then recorded, then replayed.

A graph is good for the very buffers and shapes that it was recorded with, and TensorRT wants the
context's shapes unchanged since then (developer guide, "CUDA Graphs"). A context for each number
of rows is no way out: before TensorRT 10 a profile has one context, in 8.6 unless a preview
feature is on (developer guide 8.6, "Performing Inference"). So a few rows are filled up to the
most that there have been, with what earlier runs left there: hands may come and go, and a network
that only ever gets one row runs one. With more rows graphs are kept while their number stays, and
thrown away when it changes.
"""

import functools
import logging
from typing import Any, Callable, Dict, Optional

from deploy.cuda_graph import Graph, GraphDriver, GraphError

LOGGER = logging.getLogger(__name__)

# TensorRT wants a run of the shape before it is recorded; more, so that changes cost little.
PLAIN_RUNS = 3
# So many rows or fewer share a shape: as many as a classifier's engine has, unless asked for more.
FEW_ROWS = 4


class Replays:
    """The graphs of one network on its stream. The context must be current wherever called."""

    def __init__(self, driver: Optional[GraphDriver], stream: Any, *, few_rows: int = 1) -> None:
        """driver: None for no graphs at all; few_rows: so many rows or fewer share a shape."""
        self._driver = driver
        self._stream = stream
        self._few_rows, self._most_few = few_rows, 1
        self._graphs: Dict[Any, Graph] = {}
        self._rows = 0
        self._num_runs = 0

    def run(self, slot: Any, rows: int, work: Callable[[int], None]) -> None:
        """Do what `work` puts on the stream for rows in the buffers `slot`, a key.

        `work` gets the number of rows to run: `rows`, or more, up to few_rows.
        """
        if self._driver is None:
            work(rows)
            return
        if rows <= self._few_rows:
            rows = self._most_few = max(rows, self._most_few)
        if rows != self._rows:
            self.forget()
            self._rows = rows
        graph = self._graphs.get(slot)
        if graph is None and self._num_runs >= PLAIN_RUNS:
            graph = self._record(slot, functools.partial(work, rows))
        if graph is None:
            work(rows)
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
