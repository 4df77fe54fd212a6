"""Several readers of one file side by side, and their frames put back in order.

OpenCV decodes in `grab` and converts to BGR in `retrieve`; where many cores decode, the second
takes far longer. Each of N readers grabs every frame but retrieves only every N-th: the conversion
is shared, the decoding repeated. Where decoding takes most of the time, more readers help nothing.
"""

import threading
from typing import Any, Callable, Iterator, Optional

from deploy.channel import Channel
from deploy.machine import available_cpus

AUTO = "auto"
# From so many cores on, so many readers. Each repeats the decoding: on fewer cores that would cost
# the networks more time than the shared conversion saves. Three gave no more frames a second than
# two, and results in bursts (docs/results.md, The loop).
AUTO_READERS = ((8, 2), (1, 1))


def auto_readers(num_cores: int) -> int:
    """Return how many readers are worth their decoding on so many cores, 1 or more."""
    return next(readers for cores, readers in AUTO_READERS if num_cores >= cores)


def parse_readers(text: str) -> int:
    """Return a number of readers; "auto" asks this machine. Raises ValueError."""
    if text == AUTO:
        return auto_readers(available_cpus())
    count = int(text) if text.isdigit() else 0
    if count < 1:
        raise ValueError(f"{text!r} readers, expected {AUTO} or a number from 1 on")
    return count


class Turns:
    """Lets threads 0 to N - 1 act in turn, round and round from 0, until it is over for all."""

    def __init__(self, count: int) -> None:
        # How often the turn was passed on; read by the one whose turn it is.
        self.num_passed = 0
        self._holder = 0
        self._is_over = False
        # A condition for each, so that the next one alone wakes up.
        self._lock = threading.Lock()
        self._changed = [threading.Condition(self._lock) for _ in range(count)]

    def wait(self, index: int) -> bool:
        """Wait until it is this thread's turn, at once if it still is; False when it is over."""
        with self._lock:
            while self._holder != index and not self._is_over:
                self._changed[index].wait()
            return not self._is_over

    def pass_on(self) -> None:
        """End the turn of the one that has it."""
        with self._lock:
            self.num_passed += 1
            self._holder = self.num_passed % len(self._changed)
            self._changed[self._holder].notify()

    def end(self) -> None:
        """Let every wait return False, now and from now on; any thread may call it, repeatedly."""
        with self._lock:
            self._is_over = True
            for changed in self._changed:
                changed.notify()


def pump(
    share: Iterator[Any],
    index: int,
    turns: Turns,
    channel: Channel,
    *,
    prepare: Optional[Callable[[Any], Any]],
    at_end: Optional[Callable[[int], None]],
) -> None:
    """Put a reader's share into the channel, prepared, each item in its turn; on its own thread.

    The first share that is at its end when its turn comes ends the others too: at_end is called
    with the number of items put. What the share, prepare or at_end raise is raised by the
    channel's iteration, behind the items before it.
    """
    try:
        for item in share:
            if prepare is not None:
                item = prepare(item)
            if not (turns.wait(index) and channel.put(item)):
                return
            # Its memory may be lent again while the next one is decoded.
            del item
            turns.pass_on()
        if turns.wait(index):
            if at_end is not None:
                at_end(turns.num_passed)
            channel.finish()
    except BaseException as error:  # handed to the reader, which raises it
        if turns.wait(index):
            channel.finish(error)
    finally:
        turns.end()
