"""A loaded TensorRT engine: its buffers, its stream, and how batches and frames go through it.

tensorrt and pycuda are handed in. Each network has one stream and two sets of pinned buffers, so
that the host fills one while the GPU works on the other; a frame can also be handed over as it is,
and a CUDA kernel makes the network's input of it.
"""

import functools
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from deploy.core.errors import DeployError
from deploy.core.model_json import ModelInfo
from deploy.cuda_graph import GraphDriver
from deploy.tensorrt_calls import calls_for, split_tensors
from deploy.tensorrt_device import MEBIBYTE, Device, acquire, release
from deploy.tensorrt_frames import Filler, FrameFeeder, FrameStore
from deploy.tensorrt_graphs import FEW_ROWS, Replays
from deploy.tensorrt_kernel import Kernel
from deploy.tensorrt_memory import Buffer
from deploy.tensorrt_messages import create

NUM_SLOTS = 2


class Libraries(NamedTuple):
    """The modules, the one logger that TensorRT wants per process, and CUDA graphs if there are
    any."""

    trt: Any
    cuda: Any
    logger: Any
    graphs: Optional[GraphDriver] = None


class Slot(NamedTuple):
    """One set of buffers: the input, the outputs by their name in model.json, and when it is
    done."""

    number: int
    input: Buffer
    outputs: Dict[str, Buffer]
    done: Any


class Ticket(NamedTuple):
    """A batch under way: its slot and its number of rows."""

    slot: Slot
    rows: int


class Pending(NamedTuple):
    """A call under way: the tickets of the parts that have begun, and those that have not.

    frame: what the kernel reads, held until it has.
    """

    tickets: List[Ticket]
    rest: List[Filler]
    frame: Optional[np.ndarray] = None


class TensorRtNetwork:
    """A loaded engine. Used from one thread at a time; `close` gives everything back."""

    def __init__(
        self,
        libraries: Libraries,
        plan: bytes,
        model: ModelInfo,
        *,
        dla: Optional[int] = None,
        kernel: Optional[Path] = None,
        api: str = "auto",
    ) -> None:
        """Load the engine `plan`; kernel: the compiled kernel, without which frames are refused.

        api: "auto", or "bindings" or "named" where TensorRT has both. Raises DeployError.
        """
        self._trt, self._cuda, self._logger = libraries[:3]
        self.version = str(self._trt.__version__)
        self._model = model
        self._device: Device = acquire(self._cuda)
        self.device = f"{self._device.name} (SM {self._device.sm})"
        self.device += "" if dla is None else f", DLA {dla}"
        self._buffers: List[Buffer] = []
        self._free_slots: List[Slot] = []
        self._frames_under_way: List[Pending] = []
        self._feeder: Optional[FrameFeeder] = None
        self._stream: Any = None
        self._replays: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._calls: Any = None
        try:
            with self._device.current():
                self._load(plan, dla, api)
                self._allocate()
                # A DLA's work is no kernels, and cannot be recorded.
                graphs = libraries.graphs if dla is None else None
                self._replays = Replays(graphs, self._stream, few_rows=self._few_rows())
                # The kernel writes float32; an FP16-typed input is filled by the host.
                if kernel is not None and self._input.dtype == np.float32:
                    self._feeder = self._make_feeder(kernel)
        except BaseException:
            self.close()
            raise

    @property
    def takes_frames(self) -> bool:
        """Whether `put_frame` works: the kernel is there."""
        return self._feeder is not None

    def infer(self, batch: np.ndarray) -> Dict[str, np.ndarray]:
        """Run a batch (B, 3, H, W) float32, B > 0; return the outputs (B, ...) float32 by name.

        A batch over the profile goes in parts, two under way at a time.
        """
        parts = range(0, len(batch), self.max_batch)
        with self._device.current():
            fillers = [self._filler(batch[start : start + self.max_batch]) for start in parts]
            return self._complete(self._begin(fillers))

    def submit(self, batch: np.ndarray) -> Ticket:
        """Start a batch (B, 3, H, W) float32 and return at once; two may be under way.

        Raises DeployError for a batch over the engine's profile, ValueError for a third one.
        """
        if len(batch) > self.max_batch:
            raise DeployError(
                f"batch {len(batch)} is over the engine's profile ({self._min_batch} to "
                f"{self.max_batch}); rebuild it with --batch {len(batch)}"
            )
        with self._device.current():
            return self._start(self._filler(batch))

    def collect(self, ticket: Ticket) -> Dict[str, np.ndarray]:
        """Wait for a submitted batch; return copies of its outputs."""
        with self._device.current():
            return self._finish(ticket)

    def lend_image(self, shape: Tuple[int, ...]) -> Optional[np.ndarray]:
        """Return pinned memory for a frame (H, W, 3) uint8; see FrameStore.lend. Any thread."""
        if not self._device.lends_frames:
            return None
        with self._device.current():
            return self._frames().lend(shape)

    def upload(self, image: np.ndarray) -> np.ndarray:
        """Start to copy a frame to the GPU; return it in pinned memory. Any thread.

        Where pinned memory is not for pictures, the frame itself: put_frame then copies it.
        """
        if not self._device.lends_frames:
            return image
        with self._device.current():
            return self._frames().upload(image)

    def put_frame(self, image: np.ndarray, regions: Optional[np.ndarray] = None) -> None:
        """Start with a frame (H, W, 3) uint8 BGR and return at once; two may be under way.

        regions: (N, 4), N > 0, to be cut out as crop_regions does; else the whole frame is the
        input. Raises ValueError for a third frame.
        """
        assert self._feeder is not None  # takes_frames
        self._check_free()
        with self._device.current():
            held, fillers = self._feeder.put(image, regions, largest=self.max_batch)
            self._frames_under_way.append(self._begin(fillers, frame=held))

    def run_frame(self) -> Dict[str, np.ndarray]:
        """Wait for the oldest frame put; return the outputs (N, ...) by name."""
        with self._device.current():
            return self._complete(self._frames_under_way.pop(0))

    def made_input(self) -> np.ndarray:
        """Return the input (N, 3, H, W) that the kernel made of the oldest frame put, N being at
        most the largest batch: to compare it with the CPU's, before run_frame."""
        with self._device.current():
            slot, rows = self._frames_under_way[0].tickets[0]
            slot.input.download(rows, self._stream)
            slot.done.record(self._stream)
            slot.done.synchronize()
            return np.array(slot.input.host[:rows])

    def time_gpu(self, *, batch: int, warm_up: int, repeats: int) -> Dict[str, List[float]]:
        """Return milliseconds by CUDA events: "gpu" of the network alone, "gpu_copies" with the
        copies to and from the GPU, and "wall" of the same by the host's clock."""
        times: Dict[str, List[float]] = {"gpu": [], "gpu_copies": [], "wall": []}
        with self._device.current():
            self._replays.forget()  # whose shapes may be others
            for index in range(warm_up + repeats):
                events = [self._cuda.Event() for _ in range(4)]
                started = time.perf_counter()
                slot = self._free_slots[0]
                self._enqueue(slot, batch, events)
                events[3].synchronize()
                if index >= warm_up:
                    times["wall"].append((time.perf_counter() - started) * 1e3)
                    times["gpu"].append(float(events[1].time_till(events[2])))
                    times["gpu_copies"].append(float(events[0].time_till(events[3])))
        return times

    def close(self) -> None:
        """Free the engine, its memory and its stream; the last network releases the GPU."""
        if self._device is None:
            return
        with self._device.current():
            if self._replays is not None:
                self._replays.forget()
            if self._frames_under_way:  # started ahead of a loop that has ended
                self._stream.synchronize()
            self._feeder = self._calls = None
            # The context before its engine, and that before its runtime.
            self._context = None
            self._engine = None
            self._runtime = None
            self._free_slots, self._frames_under_way = [], []
            for buffer in self._buffers:
                buffer.free()
            self._stream = None
        device, self._device = self._device, None  # type: ignore[assignment]
        release(device)

    def _load(self, plan: bytes, dla: Optional[int], api: str) -> None:
        runtime = self._runtime = create(self._trt.Runtime, self._logger)
        if dla is not None:
            runtime.DLA_core = dla
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise DeployError(
                f"TensorRT {self.version} cannot load the engine, {len(plan)} bytes: "
                f"{self._logger.errors.take()}"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._no_memory(_activation_bytes(self._engine))
        self._calls = calls_for(self._engine, self._context, api=api)
        tensors = self._calls.tensors()
        self._input, self._outputs = split_tensors(
            tensors, self._model.input_name, self._model.outputs
        )
        fixed = self._input.shape[0]
        self.max_batch = fixed if fixed > 0 else self._calls.largest_batch(self._input.name)
        # An engine of a fixed batch, such as a DLA's, always gets a full one.
        self._min_batch = self.max_batch if fixed > 0 or dla is not None else 1

    def _allocate(self) -> None:
        self._stream = self._cuda.Stream()
        tensors = [self._input] + list(self._outputs.values())
        sizes = [np.prod(t.sized(self.max_batch)) * np.dtype(t.dtype).itemsize for t in tensors]
        try:
            self._free_slots = [self._new_slot(n) for n in range(NUM_SLOTS)]
        except self._cuda.MemoryError:
            raise self._no_memory(NUM_SLOTS * int(sum(sizes))) from None

    def _new_slot(self, number: int) -> Slot:
        batch = self.max_batch
        outputs = {
            name: self._new_buffer(tensor.sized(batch), tensor.dtype)
            for name, tensor in self._outputs.items()
        }
        given = self._new_buffer(self._input.sized(batch), self._input.dtype)
        # Rows may run along before anything was put there: no NaN is to be among them.
        given.host[:] = 0
        given.upload(batch, self._stream)
        flags = self._cuda.event_flags.DISABLE_TIMING
        return Slot(number, given, outputs, self._cuda.Event(flags))

    def _new_buffer(self, shape: Tuple[int, ...], dtype: Any) -> Buffer:
        buffer = Buffer(self._cuda, shape, dtype, mapped=self._device.is_integrated)
        self._buffers.append(buffer)
        return buffer

    def _few_rows(self) -> int:
        """How many rows share a shape: on a Jetson's small GPU each takes its time, so none do."""
        return 1 if self._device.is_integrated else min(FEW_ROWS, self.max_batch)

    def _no_memory(self, needed: int) -> DeployError:
        return DeployError(
            f"not enough GPU memory: the engine needs {-(-needed // MEBIBYTE)} MB, "
            f"{self._device.free_mb()} MB are free; close other programs, or build with a smaller "
            f"--batch ({self._logger.errors.take()})"
        )

    def _make_feeder(self, kernel: Path) -> FrameFeeder:
        loaded = Kernel(self._cuda, kernel, self._model.input_wh, self._model.preprocess)
        return FrameFeeder(loaded, self._frames(), self._stream, self._new_buffer)

    def _frames(self) -> FrameStore:
        assert self._device.frames is not None  # until the device is closed
        return self._device.frames

    def _begin(self, fillers: List[Filler], *, frame: Optional[np.ndarray] = None) -> Pending:
        """Start as many parts as there are free slots, at least one."""
        count = max(1, len(self._free_slots))
        tickets = [self._start(filler) for filler in fillers[:count]]
        return Pending(tickets, fillers[count:], frame)

    def _complete(self, pending: Pending) -> Dict[str, np.ndarray]:
        """Wait for all parts, starting the next one whenever one is done."""
        tickets, rest = list(pending.tickets), list(pending.rest)
        results: List[Dict[str, np.ndarray]] = []
        while tickets:
            results.append(self._finish(tickets.pop(0)))
            if rest:
                tickets.append(self._start(rest.pop(0)))
        if len(results) == 1:
            return results[0]
        return {name: np.concatenate([part[name] for part in results]) for name in results[0]}

    def _filler(self, batch: np.ndarray) -> Filler:
        """Return what uploads a batch into an input buffer."""

        def fill(target: Buffer) -> int:
            np.copyto(target.host[: len(batch)], batch, casting="same_kind")
            target.upload(len(batch), self._stream)
            return len(batch)

        return fill

    def _check_free(self) -> None:
        if not self._free_slots:
            raise ValueError(f"{NUM_SLOTS} batches are under way; collect one first")

    def _start(self, fill: Filler) -> Ticket:
        self._check_free()
        slot = self._free_slots.pop(0)
        try:
            rows = fill(slot.input)
            self._replays.run(slot.number, rows, functools.partial(self._enqueue, slot))
        except BaseException:
            self._free_slots.append(slot)
            raise
        slot.done.record(self._stream)
        return Ticket(slot, rows)

    def _enqueue(self, slot: Slot, count: int, events: Optional[List[Any]] = None) -> None:
        """Put network and downloads on the stream; with events also the upload, timed."""
        batch = max(count, self._min_batch)
        addresses = {self._input.name: slot.input.address}
        for name, tensor in self._outputs.items():
            addresses[tensor.name] = slot.outputs[name].address
        if events is not None:
            events[0].record(self._stream)
            slot.input.upload(batch, self._stream)
            events[1].record(self._stream)
        shape = self._input.sized(batch)
        if not self._calls.enqueue(self._input.name, shape, addresses, self._stream.handle):
            raise DeployError(
                f"TensorRT {self.version} cannot run {shape}: {self._logger.errors.take()}; the "
                f"engine's profile ends at batch {self.max_batch}"
            )
        if events is not None:
            events[2].record(self._stream)
        for buffer in slot.outputs.values():
            buffer.download(count, self._stream)
        if events is not None:
            events[3].record(self._stream)

    def _finish(self, ticket: Ticket) -> Dict[str, np.ndarray]:
        slot, rows = ticket
        slot.done.synchronize()
        self._free_slots.append(slot)
        return {
            name: np.array(buffer.host[:rows], np.float32) for name, buffer in slot.outputs.items()
        }


def _activation_bytes(engine: Any) -> int:
    for name in ("device_memory_size_v2", "device_memory_size"):
        if hasattr(engine, name):
            return int(getattr(engine, name))
    return 0
