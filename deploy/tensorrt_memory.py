"""Memory for engines, through pycuda, which is handed in: pinned on the host, and on the device.

On a Jetson, where GPU and CPU share memory, a buffer is one piece of mapped memory and needs no
copy; elsewhere it is a pinned and a device piece.
"""

from typing import Any, Tuple


class Buffer:
    """An array for the host and its place on the device. Freed by `free`, in the context."""

    def __init__(self, cuda: Any, shape: Tuple[int, ...], dtype: Any, *, mapped: bool) -> None:
        """mapped: one piece of memory for both. Raises pycuda's MemoryError."""
        self._cuda = cuda
        self.is_mapped = mapped
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: Any = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._device: Any = None
        if mapped:
            self.address = int(self.host.base.get_device_pointer())
        else:
            try:
                self._device = cuda.mem_alloc(max(self.host.nbytes, 1))
            except Exception:
                self.host.base.free()
                raise
            self.address = int(self._device)

    def upload(self, count: int, stream: Any) -> None:
        """Copy the first `count` rows to the device, on a stream."""
        if not self.is_mapped:
            self._cuda.memcpy_htod_async(self._device, self.host[:count], stream)

    def download(self, count: int, stream: Any) -> None:
        """Copy the first `count` rows from the device, on a stream."""
        if not self.is_mapped:
            self._cuda.memcpy_dtoh_async(self.host[:count], self._device, stream)

    def free(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self._device is not None:
            self._device.free()
            self._device = None
        if self.host is not None:
            self.host.base.free()
            self.host = None
