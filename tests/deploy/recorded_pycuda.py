"""A stand-in for pycuda.driver: CUDA's memory, streams and contexts as host memory.

Written from pycuda's documentation. It keeps account: what was allocated and freed, which contexts
were retained, and that a context is current wherever CUDA wants one. New memory is full of UNSET
bytes, which are NaN as floating-point numbers.
"""

import ctypes
import threading
import time
import types

import numpy as np

from tests.deploy.recorded_graphs import do

UNSET = 0xFF


class Error(Exception):
    """pycuda.driver.Error."""


class LogicError(Error):
    """pycuda.driver.LogicError."""


class MemoryError(Error):  # pycuda's own name
    """pycuda.driver.MemoryError."""


class Ledger:
    """What is held: allocations and retained contexts; limit: bytes of device memory."""

    def __init__(self):
        self.allocations = 0
        self.retained = 0
        self._contexts = threading.local()
        self.limit = 1 << 34

    @property
    def current(self):
        """The contexts that this thread has pushed: each thread has a stack of its own."""
        if not hasattr(self._contexts, "stack"):
            self._contexts.stack = []
        return self._contexts.stack

    def need_context(self):
        if not self.current:
            raise LogicError("invalid device context - no currently active context?")


def make_pycuda(
    *, num_devices=1, name="Recorded GPU", sm=(8, 7), integrated=False, launch=None, fault=""
):
    """Return a module with a `ledger`; launch: runs the kernel (host_kernel); else none writes."""
    module = types.ModuleType("pycuda.driver")
    module.ledger = Ledger()

    def init():
        if fault:
            raise LogicError(fault)

    module.Error, module.LogicError, module.MemoryError = Error, LogicError, MemoryError
    module.init = init
    _add_memory(module)
    _add_devices(module, num_devices=num_devices, name=name, sm=sm, integrated=integrated)
    _add_streams(module)
    _add_functions(module, launch)
    return module


def _add_memory(module):
    """Memory of the host and the device, and copies between them."""
    ledger = module.ledger

    class HostAllocation:
        def __init__(self, shape, dtype):
            ledger.need_context()
            ledger.allocations += 1
            self._array = np.empty(shape, dtype)
            self._array.reshape(-1).view(np.uint8)[:] = UNSET
            self.__array_interface__ = dict(self._array.__array_interface__)

        def get_device_pointer(self):
            return self._array.ctypes.data

        def free(self):
            ledger.need_context()
            ledger.allocations -= 1

    class DeviceAllocation:
        def __init__(self, num_bytes):
            ledger.need_context()
            if num_bytes > ledger.limit:
                raise MemoryError("cuMemAlloc failed: out of memory")
            ledger.limit -= num_bytes
            ledger.allocations += 1
            self._memory = ctypes.create_string_buffer(num_bytes)
            ctypes.memset(self._memory, UNSET, num_bytes)

        def __int__(self):
            return ctypes.addressof(self._memory)

        def free(self):
            ledger.need_context()
            ledger.limit += len(self._memory)
            ledger.allocations -= 1

    def memcpy(to, source, num_bytes):
        ledger.need_context()
        do(lambda: ctypes.memmove(to, source, num_bytes))

    module.host_alloc_flags = types.SimpleNamespace(DEVICEMAP=2)
    module.mem_get_info = lambda: (ledger.limit, 1 << 34)
    module.mem_alloc = DeviceAllocation
    module.pagelocked_empty = lambda shape, dtype, mem_flags=0: np.asarray(
        HostAllocation(shape, dtype)
    )
    module.memcpy_htod_async = lambda to, array, stream=None: memcpy(
        int(to), array.ctypes.data, array.nbytes
    )
    module.memcpy_dtoh_async = lambda array, source, stream=None: memcpy(
        array.ctypes.data, int(source), array.nbytes
    )


def _add_devices(module, *, num_devices, name, sm, integrated):
    """Devices, and the contexts that they retain."""
    ledger = module.ledger

    class Context:
        def push(self):
            ledger.current.append(self)

        @staticmethod
        def pop():
            ledger.current.pop()

        def detach(self):
            ledger.retained -= 1

    class Device:
        def __init__(self, index):
            assert 0 <= index < num_devices

        @staticmethod
        def count():
            return num_devices

        def name(self):
            return name

        def compute_capability(self):
            return sm

        def get_attribute(self, attribute):
            return int(integrated) if attribute == "integrated" else 0

        def retain_primary_context(self):
            ledger.retained += 1
            return Context()

    module.Device, module.Context = Device, Context
    module.device_attribute = types.SimpleNamespace(INTEGRATED="integrated")


def _add_streams(module):
    """Streams, which work at once, and events."""
    ledger = module.ledger

    class Stream:
        handle = 7

        def __init__(self):
            ledger.need_context()

        def wait_for_event(self, event):
            ledger.need_context()
            assert event.recorded_s is not None

        def synchronize(self):
            ledger.need_context()

    class Event:
        def __init__(self, flags=0):
            ledger.need_context()
            self.recorded_s = None

        def record(self, stream=None):
            ledger.need_context()
            self.recorded_s = time.perf_counter()

        def synchronize(self):
            assert self.recorded_s is not None

        def time_till(self, other):
            return (other.recorded_s - self.recorded_s) * 1e3

    module.Stream, module.Event = Stream, Event
    module.event_flags = types.SimpleNamespace(DISABLE_TIMING=2)


def _add_functions(module, launch):
    """Kernels: `module.launches` lists their grids."""
    module.launches = []

    class Function:
        def prepare(self, signature):
            self.signature = signature

        def prepared_async_call(self, grid, block, stream, *arguments):
            assert len(arguments) == len(self.signature)
            module.launches.append(grid)
            if launch is not None:
                launch(grid, block, *arguments)

    module.module_from_buffer = lambda content: types.SimpleNamespace(
        get_function=lambda name: Function()
    )
