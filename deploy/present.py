"""Draw results and write them to the picture sinks, on a thread of its own."""

import contextlib
import threading
from typing import Callable, Iterator, List, Optional, Sequence

import numpy as np

from deploy.channel import Channel
from deploy.latency import Latency
from deploy.overlay import GREEN, ORANGE, draw_detections
from deploy.pipeline import Hand
from deploy.sink import PictureSink
from deploy.source import Frame

# Frames that wait to be drawn: a slow encoder evens out, and memory stays small.
DEPTH = 4

Show = Callable[[Frame, Sequence[Hand]], bool]


@contextlib.contextmanager
def presenting(sinks: Sequence[PictureSink], fps: float, latency: Latency) -> Iterator[Show]:
    """Start the thread; the block gets show(frame, hands).

    show waits while DEPTH frames are behind, and is False when a sink wants to end or has failed.
    The end of the block waits until everything is written, closes the sinks and raises what a sink
    raised. Without sinks nothing is drawn.
    """
    if not sinks:
        yield lambda frame, hands: True
        return
    channel = Channel(DEPTH)
    errors: List[BaseException] = []
    thread = threading.Thread(
        target=_present, args=(channel, sinks, fps, latency, errors), daemon=True
    )
    thread.start()
    try:
        yield lambda frame, hands: channel.put((frame, hands))
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


def _present(
    channel: Channel,
    sinks: Sequence[PictureSink],
    fps: float,
    latency: Latency,
    errors: List[BaseException],
) -> None:
    """Open, feed and close the sinks, all on this thread, as windows want it."""
    started: Optional[Sequence[PictureSink]] = None
    try:
        with contextlib.ExitStack() as stack:
            for frame, hands in channel:
                if started is None:
                    started = sinks
                    _start(sinks, frame, fps, stack)
                with latency.measure("draw"):
                    picture = draw_hands(frame.image, hands)
                with latency.measure("write"):
                    goes_on = [sink.write(picture, frame.number) for sink in sinks]
                if not all(goes_on):
                    break
    except BaseException as error:  # handed to the block's end, which raises it
        errors.append(error)
    finally:
        channel.close()


def _start(
    sinks: Sequence[PictureSink], frame: Frame, fps: float, stack: contextlib.ExitStack
) -> None:
    for sink in sinks:
        sink.start((frame.image.shape[1], frame.image.shape[0]), fps)
        stack.callback(sink.close)
