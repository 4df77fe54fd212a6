"""Notice that a frame takes too long, because a network or a device hangs, and say so at once.

The frame's own thread cannot: it hangs. A thread of the watchdog looks at the clock instead.
"""

import contextlib
import threading
import time
from typing import Any, Callable, Iterator, Optional


class Watchdog:
    """Calls `on_late` once for each guarded block that lasts longer than deadline_s."""

    def __init__(self, deadline_s: float, on_late: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._on_late = on_late
        # Taken as it is, twice a frame: by way of the condition that takes longer.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._began_s: Optional[float] = None
        self._is_late = False
        self._is_closing = False

    def guard(self) -> "_Guard":
        """Return a context manager that watches over its block.

        The block gets a function that says whether it was late.
        """
        return _Guard(self)

    def begin(self) -> None:
        """Begin to count the time of a block; `end` stops that."""
        with self._lock:
            self._began_s, self._is_late = time.monotonic(), False

    def end(self) -> None:
        """Say that the block is over.

        Waits for an on_late that runs: what it tells comes before what the block tells.
        """
        with self._lock:
            self._began_s = None

    def was_late(self) -> bool:
        """Whether the latest block was, or is, late."""
        return self._is_late

    def watch(self) -> None:
        """Look at the clock until `close`; the thread's body."""
        with self._changed:
            while not self._is_closing:
                if self._began_s is None or self._is_late:
                    self._changed.wait(self._deadline_s / 4)
                    continue
                left_s = self._began_s + self._deadline_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                else:
                    self._is_late = True
                    self._on_late()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()


class _Guard:
    """What Watchdog.guard gives; a generator in its place takes twice as long."""

    __slots__ = ("_watchdog",)

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def __enter__(self) -> Callable[[], bool]:
        self._watchdog.begin()
        return self._watchdog.was_late

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._watchdog.end()


@contextlib.contextmanager
def watching(deadline_s: float, on_late: Callable[[], None]) -> Iterator[Watchdog]:
    """Run a watchdog for the block; an infinite deadline starts no thread."""
    watchdog = Watchdog(deadline_s, on_late)
    if deadline_s == float("inf"):
        yield watchdog
        return
    thread = threading.Thread(target=watchdog.watch, daemon=True)
    thread.start()
    try:
        yield watchdog
    finally:
        watchdog.close()
        thread.join()
