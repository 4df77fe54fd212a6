"""The GPU of this process: its primary CUDA context, shared by all engines, through pycuda.

pycuda is handed in. The context is current only inside `current()`, so an engine may be used from
any thread, one at a time, and beside other users of CUDA in the process.
"""

from typing import Any, Callable, Dict, Optional

from deploy.core.errors import DeployError
from deploy.tensorrt_frames import FrameStore

MEBIBYTE = 1 << 20
COHERENT_SM = (7, 2)


class Device:
    """A GPU with its retained primary context. Made by `acquire`, given back by `release`."""

    def __init__(self, cuda: Any, index: int) -> None:
        """Raises DeployError where there is no such GPU or no driver."""
        self.cuda = cuda
        try:
            cuda.init()
            count = cuda.Device.count()
            device = cuda.Device(index) if index < count else None
        except cuda.Error as error:
            raise DeployError(f"{no_gpu()}: {' '.join(str(error).split())}") from None
        if device is None:
            raise DeployError(f"{no_gpu()}: CUDA counts {count}, wanted number {index}")
        self.index = index
        self.name = str(device.name())
        self.sm = "{}.{}".format(*device.compute_capability())
        self.is_integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        # On Nano and TX2 the CPU reads mapped memory without its caches: pictures are not to be
        # drawn or encoded from there (CUDA for Tegra, "I/O coherency": from SM 7.2 on).
        self.lends_frames = not self.is_integrated or device.compute_capability() >= COHERENT_SM
        self._context = device.retain_primary_context()
        self._current = _Current(self._context, cuda.Context.pop)
        self.frames: Optional[FrameStore] = FrameStore(cuda, mapped=self.is_integrated)
        self.num_users = 0

    def current(self) -> "_Current":
        """Return a context manager that makes the context current in this thread for the block."""
        return self._current

    def free_mb(self) -> int:
        """Return the free memory of the GPU; the context must be current."""
        return int(self.cuda.mem_get_info()[0]) // MEBIBYTE

    def close(self) -> None:
        """Free the frames and release the context.

        Frames that somebody still holds lie in its memory: it then stays until the process ends.
        """
        with self.current():
            assert self.frames is not None
            is_free = self.frames.close()
        self.frames = None
        if is_free:
            self._context.detach()


class _Current:
    """What Device.current gives: the context is on the thread's stack for a block.

    It keeps nothing, so that one serves all threads, and blocks within blocks; a generator in its
    place takes five times as long.
    """

    __slots__ = ("_push", "_pop")

    def __init__(self, context: Any, pop: Callable[[], None]) -> None:
        self._push, self._pop = context.push, pop

    def __enter__(self) -> None:
        self._push()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._pop()


_DEVICES: Dict[int, Device] = {}


def acquire(cuda: Any, index: int = 0) -> Device:
    """Return the process's device of this number, retained once for all who acquire it."""
    device = _DEVICES.get(index)
    if device is None:
        device = _DEVICES[index] = Device(cuda, index)
    device.num_users += 1
    return device


def release(device: Device) -> None:
    """Give a device back; the last one to do so releases its context."""
    device.num_users -= 1
    if device.num_users == 0:
        del _DEVICES[device.index]
        device.close()


def no_gpu() -> str:
    """Return how the message of a missing GPU begins."""
    return "no NVIDIA GPU or driver is there for TensorRT; use --runtime onnxruntime"
