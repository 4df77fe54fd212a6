"""Frames in pinned memory and on the GPU, lent to whoever decodes, draws or classifies them.

A source decodes into memory that `FrameStore.lend` hands out, `upload` starts the copy to the GPU
on the thread that decodes, and networks wait for it on their own streams. Memory is lent again
once no array of it is left: a frame that somebody keeps never changes, on the host or on the GPU.
"""

import collections
import threading
import weakref
from typing import Any, Callable, Deque, List, NamedTuple, Optional, Tuple

import numpy as np

from deploy.tensorrt_kernel import Kernel, Rectangle, region_rectangles
from deploy.tensorrt_memory import Buffer

# Pictures that sources may have at a time: four wait, two are worked on, some are drawn.
NUM_LENT = 16
# Frames of other memory whose copies the classifier still finds: two may be under way.
NUM_KEPT = 2
# Hands of a frame for which room is kept; more make it grow.
REGIONS = 16
RECTANGLE_BYTES = 16

# Fills an input buffer and tells its number of rows.
Filler = Callable[[Buffer], int]


class Lease:
    """What every array of a lent picture has as its base; gone when the last of them is."""

    def __init__(self, place: "Place") -> None:
        self.place = place
        self.image: Any = None  # a weak reference to the array that was lent
        self.is_uploaded = False
        self.__array_interface__ = place.buffer.host.__array_interface__


class Place:
    """Memory for one frame, and when the frame is on the GPU."""

    def __init__(self, buffer: Buffer, ready: Any) -> None:
        self.buffer, self.ready = buffer, ready
        self._lease: Any = None

    def is_lent(self) -> bool:
        """Whether somebody holds an array of it."""
        return self._lease is not None and self._lease() is not None

    def lend(self) -> np.ndarray:
        """Return its memory as an array."""
        lease = Lease(self)
        image = np.asarray(lease)
        lease.image, self._lease = weakref.ref(image), weakref.ref(lease)
        return image


class Placed(NamedTuple):
    """A frame on the GPU; whoever reads `address` holds `image` until that is done."""

    image: np.ndarray
    address: int


class FrameStore:
    """The frames of a GPU. `lend` and `upload` may be called from any thread.

    Frames go up on a stream of their own, while networks work on theirs. The context must be
    current wherever anything is called.
    """

    def __init__(self, cuda: Any, *, mapped: bool) -> None:
        self._cuda, self._mapped = cuda, mapped
        self._places: List[Place] = []
        # Frames in memory that is not ours, and their copies.
        self._copies: Deque[Tuple[np.ndarray, np.ndarray]] = collections.deque(maxlen=NUM_KEPT)
        self._lock = threading.Lock()
        self._stream: Any = None

    def lend(self, shape: Tuple[int, ...]) -> Optional[np.ndarray]:
        """Return a picture (H, W, 3) uint8 to write into once; None when NUM_LENT are held."""
        with self._lock:
            if sum(place.is_lent() for place in self._places) >= NUM_LENT:
                return None
            return self._find_place(shape).lend()

    def upload(self, image: np.ndarray) -> np.ndarray:
        """Start to copy a frame (H, W, 3) uint8 to the GPU; return it in lent memory.

        A picture that was lent is returned itself, and is not to be written into again.
        """
        lease = _lease_of(image)
        if lease is None:
            with self._lock:
                own = self._find_place(image.shape).lend()
            np.copyto(own, image)
            image, lease = own, _lease_of(own)
        assert lease is not None  # a lent picture has one
        if not lease.is_uploaded:
            lease.place.buffer.upload(len(image), self._stream)
            lease.place.ready.record(self._stream)
            lease.is_uploaded = True
        return image

    def put(self, image: np.ndarray, stream: Any) -> Placed:
        """Upload a frame unless it is there, and let `stream` wait for it."""
        own = self.upload(image)
        if own is not image:
            # An array that is put again holds another frame now: the older copy is not its own.
            self._forget(image)
            self._copies.append((image, own))
        return _wait_for(own, stream)

    def take(self, image: np.ndarray, stream: Any) -> Placed:
        """As put, but a copy that put has made of the same array serves as well.

        Once only: a source may write its next frame into the same array.
        """
        own = next((copy for kept, copy in self._copies if kept is image), None)
        if own is None:
            own = self.upload(image)
        else:
            self._forget(image)
        return _wait_for(own, stream)

    def close(self) -> bool:
        """Free the memory; False when frames are still held: theirs is left to them."""
        self._copies.clear()
        if self._stream is not None:
            self._stream.synchronize()
        with self._lock:
            self._places = self._keep_lent()
            return not self._places

    def _find_place(self, shape: Tuple[int, ...]) -> Place:
        """Return a place that nobody holds, a new one if need be."""
        for place in self._places:
            if place.buffer.host.shape == tuple(shape) and not place.is_lent():
                return place
        if self._stream is None:
            self._stream = self._cuda.Stream()
        # A source that changes its size does not come back to the old one soon.
        self._places = self._keep_lent(shape)
        buffer = Buffer(self._cuda, tuple(shape), np.uint8, mapped=self._mapped)
        place = Place(buffer, self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING))
        self._places.append(place)
        return place

    def _keep_lent(self, shape: Tuple[int, ...] = ()) -> List[Place]:
        """Free the places that nobody holds, less those of a shape; return the rest."""
        kept = []
        for place in self._places:
            if place.is_lent() or place.buffer.host.shape == tuple(shape):
                kept.append(place)
            else:
                place.buffer.free()
        return kept

    def _forget(self, image: np.ndarray) -> None:
        kept = [pair for pair in self._copies if pair[0] is not image]
        self._copies = collections.deque(kept, maxlen=NUM_KEPT)


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
        # The whole frame as the one region: it goes up once for each size.
        self._whole: Any = None
        self._whole_wh = (0, 0)

    def put(
        self, image: np.ndarray, regions: Optional[np.ndarray], *, largest: int
    ) -> Tuple[np.ndarray, List[Filler]]:
        """Upload a frame; return it in the memory that the kernel reads, to be held until that is
        done, and, for parts of at most `largest` regions, what fills an input with one and tells
        its number. Without regions the whole frame is the one."""
        frame_wh = (image.shape[1], image.shape[0])
        if regions is None:
            held, address = self._frames.put(image, self._stream)
            start, total = self._upload_whole(frame_wh), 1
        else:
            held, address = self._frames.take(image, self._stream)
            start, total = self._upload(region_rectangles(regions)), len(regions)

        def filler(first: int) -> Filler:
            count = min(largest, total - first)

            def fill(target: Buffer) -> int:
                self._kernel.launch(
                    self._stream,
                    frame=address,
                    frame_wh=frame_wh,
                    regions=start + RECTANGLE_BYTES * first,
                    count=count,
                    out=target.address,
                    is_crop=regions is not None,
                )
                return count

            return fill

        return held, [filler(first) for first in range(0, total, largest)]

    def _upload(self, rectangles: List[Rectangle]) -> int:
        """Upload rectangles, at least one; return the address."""
        self._turn = (self._turn + 1) % NUM_KEPT
        buffer = self._rectangles[self._turn]
        if len(rectangles) > len(buffer.host):
            buffer = self._new_buffer((2 * len(rectangles), 4), np.int32)
            self._rectangles[self._turn] = buffer
        buffer.host[: len(rectangles)] = rectangles
        buffer.upload(len(rectangles), self._stream)
        return buffer.address

    def _upload_whole(self, frame_wh: Tuple[int, int]) -> int:
        """Return the address of the rectangle that is the whole frame."""
        if self._whole_wh != frame_wh:
            # A buffer of its own: a kernel under way may still read that of the size before.
            self._whole = self._new_buffer((1, 4), np.int32)
            self._whole.host[0] = (0, 0) + frame_wh
            self._whole.upload(1, self._stream)
            self._whole_wh = frame_wh
        return self._whole.address


def _lease_of(image: np.ndarray) -> Optional[Lease]:
    """Return the lease of a picture that was lent; None for any other array, parts of one too."""
    lease = image.base
    return lease if isinstance(lease, Lease) and lease.image() is image else None


def _wait_for(own: np.ndarray, stream: Any) -> Placed:
    lease = _lease_of(own)
    assert lease is not None  # upload has returned it
    stream.wait_for_event(lease.place.ready)
    return Placed(own, lease.place.buffer.address)
