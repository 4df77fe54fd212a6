"""Draw results and write them to the picture sinks, on a thread of its own."""

import contextlib
import threading
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from deploy.channel import Channel
from deploy.core.errors import DeployError
from deploy.health import Health
from deploy.latency import Latency
from deploy.overlay import GREEN, ORANGE, draw_detections
from deploy.pipeline import Hand
from deploy.sink import PictureSink
from deploy.source import Frame

# Frames that wait to be drawn: a slow encoder evens out, and memory stays small.
DEPTH = 4

Show = Callable[[Frame, Sequence[Hand]], bool]


@contextlib.contextmanager
def presenting(
    sinks: Sequence[PictureSink],
    fps: float,
    latency: Latency,
    *,
    health: Optional[Health] = None,
    is_live: bool = False,
    has_events: bool = False,
) -> Iterator[Show]:
    """Start the thread; the block gets show(frame, hands).

    show waits while DEPTH frames are behind, or drops the oldest of a live source. It is False
    when a sink wants to end, or the last one has failed and there are no events either: a sink
    that fails is closed and left, the others go on.
    The end of the block waits until everything is written, closes the sinks and raises what a sink
    raised. Without sinks nothing is drawn.
    """
    if not sinks:
        yield lambda frame, hands: True
        return
    channel = Channel(DEPTH, drop_oldest=is_live)
    errors: List[BaseException] = []
    writer = _Writer(list(sinks), health or Health(), errors)
    thread = threading.Thread(
        target=_present, args=(channel, writer, fps, latency, errors), daemon=True
    )
    thread.start()
    try:
        yield lambda frame, hands: channel.put((frame, hands)) or writer.failed and has_events
    finally:
        channel.finish()
        thread.join()
    if errors:
        raise errors[0]


def draw_hands(image: np.ndarray, hands: Sequence[Hand]) -> np.ndarray:
    """Return a copy of a frame with each hand's tight box, track number and gesture."""
    xyxy = np.array([hand.xyxy for hand in hands], np.float32).reshape(-1, 4)
    colors = [ORANGE if hand.gesture is None else GREEN for hand in hands]
    return draw_detections(image, xyxy, [_text(hand) for hand in hands], colors=colors)


def _text(hand: Hand) -> str:
    if hand.gesture is None:
        return f"#{hand.track}"
    return f"#{hand.track} {hand.gesture} {hand.gesture_confidence:.2f}"


class _Writer:
    """The sinks that still work, for the presenting thread; failed: none is left."""

    def __init__(
        self, sinks: List[PictureSink], health: Health, errors: List[BaseException]
    ) -> None:
        self.failed = False
        self._sinks = sinks
        self._health = health
        self._errors = errors

    def start(self, image_wh: Tuple[int, int], fps: float) -> None:
        for sink in self._sinks:
            sink.start(image_wh, fps)

    def write(self, picture: np.ndarray, number: int) -> bool:
        """Write to every sink; False when one wants to end or none is left."""
        goes_on = True
        for sink in list(self._sinks):
            try:
                goes_on = sink.write(picture, number) and goes_on
            except DeployError as error:
                self._errors.append(error)
                self._sinks.remove(sink)
                sink.close()
                self._health.fault("sink", f"{error}; the rest goes on, if there is any")
        self.failed = not self._sinks
        return goes_on and not self.failed

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def _present(
    channel: Channel,
    writer: _Writer,
    fps: float,
    latency: Latency,
    errors: List[BaseException],
) -> None:
    """Open, feed and close the sinks, all on this thread, as windows want it."""
    is_started = False
    try:
        with contextlib.ExitStack() as stack:
            for frame, hands in channel:
                if not is_started:
                    is_started = True
                    stack.callback(writer.close)
                    writer.start((frame.image.shape[1], frame.image.shape[0]), fps)
                with latency.measure("draw"):
                    picture = draw_hands(frame.image, hands)
                with latency.measure("write"):
                    goes_on = writer.write(picture, frame.number)
                if not goes_on:
                    break
    except BaseException as error:  # handed to the block's end, which raises it
        errors.append(error)
    finally:
        channel.close()
