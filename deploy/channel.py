"""A bounded queue between two threads that both ends can close, errors included."""

import collections
import threading
import time
from typing import Any, Deque, Iterator, Optional

# How long a reader that waits takes to notice `interrupt`.
POLL_S = 0.1


class Channel:
    """One thread puts and finishes, another iterates and may close early.

    depth: how many items wait at most; drop_oldest: what happens to a full channel, for live
    sources; otherwise `put` waits.
    """

    def __init__(self, depth: int, *, drop_oldest: bool = False) -> None:
        self.dropped = 0
        self._depth = depth
        self._drop_oldest = drop_oldest
        self._items: Deque[Any] = collections.deque()
        # Taken as it is, with each item: by way of the condition that takes longer.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._finished = False
        self._closed = False
        self._interrupted = False
        self._claimed: Any = None
        self._error: Optional[BaseException] = None

    def put(self, item: Any) -> bool:
        """Add an item; False when the reader has closed, so that the writer can stop."""
        with self._lock:
            while len(self._items) >= self._depth and not self._closed:
                if self._drop_oldest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            self._items.append(item)
            self._changed.notify_all()
            return not self._closed

    def claim(self) -> Any:
        """Return the item that the iteration yields next, or None if none waits; the reader's.

        It is not dropped any more, and another call returns the same.
        """
        # The reader alone claims, and what is put after this look is found by the next one.
        if self._claimed is None and self._items:
            with self._lock:
                if self._items:  # not dropped in the meantime
                    self._claimed = self._items.popleft()
                    self._changed.notify_all()
        return self._claimed

    def finish(self, error: Optional[BaseException] = None) -> None:
        """Say that no more comes; the reader gets what waits and then the error, if any."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def interrupt(self) -> None:
        """End the iteration at its next step. Takes no lock: a signal handler may call it."""
        self._interrupted = True

    def close(self) -> None:
        """Say that nothing more is read; a waiting `put` returns False."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._claimed = None
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        """Yield the items in order until the writer finishes; raise its error then."""
        return (item for item in self.poll(float("inf")) if item is not None)

    def poll(self, idle_s: float) -> Iterator[Any]:
        """Yield as an iteration does, and None each time that nothing came for idle_s seconds."""
        told_s = time.perf_counter()
        while not self._interrupted:
            item = self.claim()
            self._claimed = None
            if item is None:
                with self._lock:
                    if self._items:
                        continue
                    if self._error is not None:
                        raise self._error
                    if self._finished:
                        return
                    self._changed.wait(min(POLL_S, idle_s))
                if time.perf_counter() - told_s < idle_s:
                    continue
            yield item
            told_s = time.perf_counter()
