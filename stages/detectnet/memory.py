"""Out of memory while training: recognise it, and find by trying which batch size fits.

Half the failed batch size and a quarter of it are trained for two steps each (smaller ones where
these fail as well); their peaks give a line, bytes over pictures; the batch size that the line
allows with MARGIN_FRAC of the memory to spare is then tried itself. What is recommended has run.
"""

import gc
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch

MARGIN_FRAC = 0.1
GIB = 1 << 30
# What PyTorch and its libraries say when memory is short and the error has no type of its own.
# cuDNN finds no engine when none has the workspace that it wants.
MARKS = (
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
    "DefaultCPUAllocator: can't allocate memory",
)

Result = TypeVar("Result")


class Trial(NamedTuple):
    """A batch size that ran, and the memory it took at most (0 = the device does not say)."""

    batch_size: int
    peak_bytes: int


class DeviceMemory(Protocol):
    """What the search asks of a device; 0 bytes = it does not say."""

    @property
    def name(self) -> str:
        """Return the device's name for a message."""

    def total_bytes(self) -> int:
        """Return what the device has."""

    def limit_bytes(self) -> int:
        """Return what this process can have: what it holds and what nobody does."""

    def release(self) -> None:
        """Give back what is held but not used, and count the peak from now on."""

    def peak_bytes(self) -> int:
        """Return the most that was held since release."""


class CudaMemory:
    """The memory of an NVIDIA GPU, as PyTorch's allocator takes it from the driver."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.name = torch.cuda.get_device_name(device)

    def total_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self._device)[1])

    def limit_bytes(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        allowed = torch.cuda.get_per_process_memory_fraction(self._device) * total
        return int(min(free + torch.cuda.memory_reserved(self._device), allowed))

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


class UnknownMemory:
    """A device that does not count its memory: only what runs and what does not can be seen."""

    def __init__(self, device: torch.device) -> None:
        self.name = f"device {device.type}"

    def total_bytes(self) -> int:
        return 0

    def limit_bytes(self) -> int:
        return 0

    def release(self) -> None:
        gc.collect()

    def peak_bytes(self) -> int:
        return 0


def open_memory(device: torch.device) -> DeviceMemory:
    """Return what can be asked of a device's memory."""
    return CudaMemory(device) if device.type == "cuda" else UnknownMemory(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory, whichever library met it, from every other error."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in MARKS)


def unless_out_of_memory(call: Callable[[], Result]) -> Result | None:
    """Return the call's result, or None where memory ran out.

    By the time of the return nothing holds the failed call's tensors: the error, whose traceback
    does, is gone.
    """
    try:
        return call()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def find_fitting_batch(
    failed: int, step: Callable[[int], object], memory: DeviceMemory
) -> Trial | None:
    """Return the largest batch size below `failed`, of those tried, that leaves a margin free.

    step: makes one training step with the given number of pictures. Returns None when not even
    one picture fits, and the smallest that ran when none leaves the margin.
    """
    trials: list[Trial] = []
    batch_size = failed // 2
    while batch_size >= 1 and len(trials) < 2:
        trial = _try_batch(batch_size, step, memory)
        if trial is None:
            failed = batch_size
        else:
            trials.append(trial)
        batch_size //= 2
    if not trials:
        return None
    budget_bytes = math.floor((1.0 - MARGIN_FRAC) * memory.limit_bytes())
    wanted = choose_batch(trials, budget_bytes, below=failed)
    if wanted not in [trial.batch_size for trial in trials]:
        trial = _try_batch(wanted, step, memory)
        trials += [trial] if trial else []
    fitting = [trial for trial in trials if trial.peak_bytes <= budget_bytes]
    return max(fitting, default=min(trials))


def choose_batch(trials: Sequence[Trial], budget_bytes: int, *, below: int) -> int:
    """Return the rounded batch size, below `below`, at which a line through trials meets a budget.

    Without a line that rises (a single trial, a device that does not say) it is the largest trial.
    """
    largest, smallest = max(trials), min(trials)
    pictures = largest.batch_size - smallest.batch_size
    rise_bytes = largest.peak_bytes - smallest.peak_bytes
    if pictures == 0 or rise_bytes <= 0:
        return largest.batch_size
    more = (budget_bytes - largest.peak_bytes) * pictures // rise_bytes
    return round_batch(min(max(largest.batch_size + more, 1), below - 1))


def round_batch(batch_size: int) -> int:
    """Round down to a multiple of 8, or to a power of two below 8."""
    if batch_size >= 8:
        return batch_size // 8 * 8
    return 1 << (batch_size.bit_length() - 1)


def describe_memory(memory: DeviceMemory) -> str:
    """Say what the device has, and how much of it this process can have."""
    if memory.total_bytes() == 0:
        return f"{memory.name} has too little memory"
    total, limit = memory.total_bytes() / GIB, memory.limit_bytes() / GIB
    return f"{memory.name} has {total:.1f} GiB, {limit:.1f} GiB of it for this process"


def describe_remedy(trial: Trial | None, *, section: str, input_wh: Sequence[int]) -> str:
    """Say which batch size fits and how to set it; section: where batch_size is in resolved.yaml.

    trial None: not even one picture fits.
    """
    if trial is None:
        width, height = input_wh
        return (
            f"not even one picture fits; lower model.input_wh (now {width}x{height}) or "
            "model.width, or free the device of other programs"
        )
    peak = f", {trial.peak_bytes / GIB:.1f} GiB at the peak" if trial.peak_bytes else ""
    override = f"+overrides.{section}.batch_size={trial.batch_size}"
    return (
        f"batch_size {trial.batch_size} fits (tried{peak}), learning_rate may stay: "
        f"dvc exp run -S '{override}'"
    )


def _try_batch(
    batch_size: int, step: Callable[[int], object], memory: DeviceMemory
) -> Trial | None:
    """Make two steps; None where memory ran out.

    The peak is the second step's: the first makes the optimiser's state, and cuDNN tries
    algorithms in it that it then does not take.
    """

    def run() -> Trial:
        step(batch_size)
        memory.release()
        step(batch_size)
        return Trial(batch_size, memory.peak_bytes())

    memory.release()
    return unless_out_of_memory(run)
