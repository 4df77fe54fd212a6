"""The search for a batch size that fits, on a device that is made up."""

import pytest
import torch

from stages.detectnet.memory import (
    GIB,
    Trial,
    choose_batch,
    describe_memory,
    describe_remedy,
    find_fitting_batch,
    is_out_of_memory,
    open_memory,
    round_batch,
    unless_out_of_memory,
)


class FakeMemory:
    """A device with 8 GiB where a step holds fixed_bytes and bytes_per_picture."""

    name = "FakeGPU"

    def __init__(
        self, *, fixed_bytes: int, bytes_per_picture: int, other_programs_bytes: int = 0
    ) -> None:
        self.fixed_bytes, self.bytes_per_picture = fixed_bytes, bytes_per_picture
        self.other_programs_bytes = other_programs_bytes
        self.tried: list[int] = []
        self._peak_bytes = 0

    def total_bytes(self) -> int:
        return 8 * GIB

    def limit_bytes(self) -> int:
        return 8 * GIB - self.other_programs_bytes

    def release(self) -> None:
        self._peak_bytes = 0

    def peak_bytes(self) -> int:
        return self._peak_bytes

    def step(self, batch_size: int) -> None:
        self.tried.append(batch_size)
        wanted = self.fixed_bytes + batch_size * self.bytes_per_picture
        if wanted > self.limit_bytes():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self._peak_bytes = max(self._peak_bytes, wanted)


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, 1), (2, 2), (3, 2), (7, 4), (8, 8), (15, 8), (31, 24)]
)
def test_rounding(batch_size: int, expected: int) -> None:
    assert round_batch(batch_size) == expected


@pytest.mark.parametrize(
    ("trials", "budget", "below", "expected"),
    [
        ([Trial(4, 50)], 500, 64, 4),  # one point is no line
        ([Trial(8, 0), Trial(4, 0)], 0, 64, 8),  # the device does not say
        ([Trial(8, 90), Trial(4, 50)], 10 + 10 * 30, 64, 24),  # 10 fixed, 10 a picture: 30 fit
        ([Trial(8, 90), Trial(4, 50)], 10 + 10 * 24, 64, 24),
        ([Trial(8, 90), Trial(4, 50)], 10 + 10 * 100, 64, 56),  # 63 at most
        ([Trial(8, 90), Trial(4, 50)], 10 + 10 * 6, 64, 4),  # too little for what has run
        ([Trial(8, 90), Trial(4, 50)], 5, 64, 1),
        ([Trial(8, 90), Trial(4, 90)], 900, 64, 8),  # more pictures took no more
    ],
)
def test_the_line_through_two_trials_meets_the_budget(
    trials: list[Trial], budget: int, below: int, expected: int
) -> None:
    assert choose_batch(trials, budget, below=below) == expected


@pytest.mark.parametrize(
    ("failed", "pictures_that_fit", "expected", "tried"),
    [
        (64, 48, 40, {32, 16, 40}),  # a tenth is kept free: 43.2
        (64, 36, 32, {32, 16}),  # 32.4
        (64, 33, 24, {32, 16, 24}),  # 32 runs, and leaves no tenth
        (64, 10, 8, {32, 16, 8, 4}),
        (64, 1, 1, {32, 16, 8, 4, 2, 1}),
        (3, 2, 1, {1}),
        (64, 0, None, {32, 16, 8, 4, 2, 1}),
        (1, 0, None, set()),
    ],
)
def test_the_largest_batch_that_ran_with_room_to_spare_is_found(
    failed: int, pictures_that_fit: int, expected: int | None, tried: set[int]
) -> None:
    memory = FakeMemory(fixed_bytes=0, bytes_per_picture=8 * GIB // max(pictures_that_fit, 1))
    memory.fixed_bytes = 0 if pictures_that_fit else 8 * GIB
    found = find_fitting_batch(failed, memory.step, memory)
    assert (found.batch_size if found else None) == expected
    assert set(memory.tried) == tried


def test_the_fixed_part_and_other_programs_count() -> None:
    memory = FakeMemory(fixed_bytes=GIB, bytes_per_picture=GIB // 8, other_programs_bytes=3 * GIB)
    found = find_fitting_batch(40, memory.step, memory)
    assert found == Trial(24, 4 * GIB)  # 0.9 * 5 GiB = 1 + 28 / 8


def test_a_device_that_does_not_count_is_asked_by_halves() -> None:
    memory = open_memory(torch.device("cpu"))
    small = FakeMemory(fixed_bytes=0, bytes_per_picture=GIB)
    assert find_fitting_batch(64, small.step, memory) == Trial(8, 0)
    assert describe_memory(memory) == "device cpu has too little memory"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("Tried to allocate"), True),
        (torch.cuda.OutOfMemoryError("Tried to allocate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_library_says_it_in_its_own_words(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_allocator_of_the_cpu_says_so_too() -> None:
    assert unless_out_of_memory(lambda: torch.empty(1 << 60, dtype=torch.uint8)) is None


def test_other_errors_pass() -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        unless_out_of_memory(fail)


def test_the_failed_call_holds_nothing_any_more() -> None:
    import weakref

    seen = []

    def fail() -> None:
        tensor = torch.zeros(3)
        seen.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert unless_out_of_memory(fail) is None
    assert seen[0]() is None


def test_messages_name_the_override() -> None:
    memory = FakeMemory(fixed_bytes=0, bytes_per_picture=1, other_programs_bytes=GIB // 2)
    assert describe_memory(memory) == "FakeGPU has 8.0 GiB, 7.5 GiB of it for this process"
    fits = describe_remedy(Trial(24, 3 * GIB), section="retrain.qat_fit", input_wh=(640, 352))
    assert fits == (
        "batch_size 24 fits (tried, 3.0 GiB at the peak), learning_rate may stay: "
        "dvc exp run -S '+overrides.retrain.qat_fit.batch_size=24'"
    )
    nothing = describe_remedy(None, section="train", input_wh=(640, 352))
    assert nothing.startswith("not even one picture fits; lower model.input_wh (now 640x352) or")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_real_gpu_counts_what_a_step_takes() -> None:
    memory = open_memory(torch.device("cuda", 0))
    memory.release()
    before = memory.peak_bytes()
    torch.empty(GIB, dtype=torch.uint8, device="cuda")
    assert GIB <= memory.peak_bytes() - before <= 2 * GIB
    assert memory.peak_bytes() < memory.limit_bytes() <= memory.total_bytes()
