"""Frames on the GPU: the latest ones, and the kernel that makes a network's input of them."""

from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from deploy.tensorrt_kernel import Kernel, region_rectangles
from deploy.tensorrt_memory import Buffer

# Two, so that a frame can be uploaded while the kernel still reads the one before.
NUM_KEPT = 2
# Hands of a frame for which room is kept; more make it grow.
REGIONS = 16
RECTANGLE_BYTES = 16


class FrameStore:
    """The latest frames on the GPU: the detector puts one there, the classifier cuts hands out.

    Frames go up on a stream of their own, while networks work on theirs.
    """

    def __init__(self, cuda: Any, *, mapped: bool) -> None:
        self._cuda, self._mapped = cuda, mapped
        self._buffers: List[Optional[Buffer]] = [None] * NUM_KEPT
        self._images: List[Optional[np.ndarray]] = [None] * NUM_KEPT
        self._turn = 0
        self._stream: Any = None
        self._ready: List[Any] = []

    def put(self, image: np.ndarray, stream: Any) -> int:
        """Upload a frame (H, W, 3) uint8 and let `stream` wait for it; return its address."""
        if self._stream is None:
            self._stream = self._cuda.Stream()
            flags = self._cuda.event_flags.DISABLE_TIMING
            self._ready = [self._cuda.Event(flags) for _ in range(NUM_KEPT)]
        turn = self._turn = (self._turn + 1) % NUM_KEPT
        buffer = self._room(turn, image.shape)
        np.copyto(buffer.host, image)
        buffer.upload(len(image), self._stream)
        self._ready[turn].record(self._stream)
        stream.wait_for_event(self._ready[turn])
        # An array that is put again holds another frame now: the older copy is not its own.
        self._images = [None if kept is image else kept for kept in self._images]
        self._images[turn] = image
        return buffer.address

    def take(self, image: np.ndarray, stream: Any) -> int:
        """Return the address of a frame, uploaded only if it is not one of the latest put.

        Once only: a source may write its next frame into the same array.
        """
        turn = next((n for n, kept in enumerate(self._images) if kept is image), None)
        if turn is None:
            self.put(image, stream)
            turn = self._turn
        self._images[turn] = None
        stream.wait_for_event(self._ready[turn])
        buffer = self._buffers[turn]
        assert buffer is not None  # an image was put
        return buffer.address

    def close(self) -> None:
        """Free the memory; the context must be current."""
        for buffer in self._buffers:
            if buffer is not None:
                buffer.free()
        self._buffers = [None] * NUM_KEPT
        self._images = [None] * NUM_KEPT
        self._ready, self._stream = [], None

    def _room(self, turn: int, shape: Tuple[int, ...]) -> Buffer:
        buffer = self._buffers[turn]
        if buffer is not None and buffer.host.shape == shape:
            return buffer
        if buffer is not None:
            self._buffers[turn] = None
            buffer.free()
        buffer = self._buffers[turn] = Buffer(self._cuda, shape, np.uint8, mapped=self._mapped)
        return buffer


class FrameFeeder:
    """Fills the inputs of one network from frames; its memory comes from `new_buffer`."""

    def __init__(
        self,
        kernel: Kernel,
        frames: FrameStore,
        stream: Any,
        new_buffer: Callable[[Tuple[int, ...], Any], Buffer],
    ) -> None:
        self._kernel, self._frames, self._stream = kernel, frames, stream
        self._new_buffer = new_buffer
        self._rectangles = [new_buffer((REGIONS, 4), np.int32) for _ in range(NUM_KEPT)]
        self._turn = 0

    def put(
        self, image: np.ndarray, regions: Optional[np.ndarray], *, largest: int
    ) -> List[Callable[[Buffer], int]]:
        """Upload a frame; return, for parts of at most `largest` regions, what fills an input
        with one and tells its number. Without regions the whole frame is the one."""
        whole = np.array([[0, 0, image.shape[1], image.shape[0]]], np.int32)
        rectangles = whole if regions is None else region_rectangles(regions)
        place = self._frames.put if regions is None else self._frames.take
        frame = place(image, self._stream)
        start = self._upload(rectangles)

        def filler(first: int) -> Callable[[Buffer], int]:
            count = min(largest, len(rectangles) - first)

            def fill(target: Buffer) -> int:
                self._kernel.launch(
                    self._stream,
                    frame=frame,
                    frame_wh=(image.shape[1], image.shape[0]),
                    regions=start + RECTANGLE_BYTES * first,
                    count=count,
                    out=target.address,
                    is_crop=regions is not None,
                )
                return count

            return fill

        return [filler(first) for first in range(0, len(rectangles), largest)]

    def _upload(self, rectangles: np.ndarray) -> int:
        """Upload (N, 4) int32; return the address."""
        self._turn = (self._turn + 1) % NUM_KEPT
        buffer = self._rectangles[self._turn]
        if len(rectangles) > len(buffer.host):
            buffer = self._new_buffer((2 * len(rectangles), 4), np.int32)
            self._rectangles[self._turn] = buffer
        buffer.host[: len(rectangles)] = rectangles
        buffer.upload(len(rectangles), self._stream)
        return buffer.address
