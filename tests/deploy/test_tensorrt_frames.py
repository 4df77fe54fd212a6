"""Lent frames: reused when nobody holds them, never changed while somebody does."""

import ctypes
import sys
import threading

import numpy as np
import pytest

from deploy.tensorrt_device import acquire, release
from deploy.tensorrt_frames import NUM_LENT, FrameStore
from tests.deploy.recorded_pycuda import LogicError, make_pycuda

SHAPE = (4, 6, 3)


@pytest.fixture(params=[False, True], ids=["copied", "mapped"])
def store(request):
    cuda = make_pycuda(integrated=request.param)
    cuda.Device(0).retain_primary_context().push()
    made = FrameStore(cuda, mapped=request.param)
    made.cuda, made.stream = cuda, cuda.Stream()
    return made


def on_gpu(placed):
    kind = ctypes.c_ubyte * placed.image.size
    return np.array(kind.from_address(placed.address)).reshape(placed.image.shape)


def addresses_of(store, count):
    return [store.lend(SHAPE).ctypes.data for _ in range(count)]


def test_memory_is_lent_again_when_nobody_holds_it(store):
    assert len(set(addresses_of(store, 20))) == 1
    held = [store.lend(SHAPE) for _ in range(3)]
    assert len({image.ctypes.data for image in held} | set(addresses_of(store, 20))) == 4
    assert len(held) == 3


@pytest.mark.parametrize(
    "part", [lambda i: i, lambda i: i[1:3], lambda i: i[::-1][0], lambda i: i.reshape(-1)[5:]]
)
def test_part_that_is_kept_never_changes(store, part):
    image = store.lend(SHAPE)
    image[:] = 7
    kept = part(store.upload(image))
    del image
    for value in range(20):
        other = store.lend(SHAPE)
        other[:] = value
        store.put(other, store.stream)
    assert (kept == 7).all()


def test_frames_are_on_the_gpu_for_as_long_as_they_are_held(store):
    held = []
    for value in range(6):
        image = store.lend(SHAPE)
        image[:] = value
        held.append(store.put(image, store.stream))
    assert [int(on_gpu(placed).max()) for placed in held] == list(range(6))
    assert all(placed.image.max() == value for value, placed in enumerate(held))


def test_lent_frame_goes_up_once_and_the_classifier_finds_it(store, monkeypatch):
    uploads = []
    copy = store.cuda.memcpy_htod_async
    monkeypatch.setattr(store.cuda, "memcpy_htod_async", lambda *a: uploads.append(1) or copy(*a))
    image = store.lend(SHAPE)
    assert store.upload(image) is image
    assert store.put(image, store.stream).image is image
    assert store.take(image, store.stream).image is image
    assert store.take(image, store.stream).image is image
    assert len(uploads) <= 1


def test_foreign_frame_is_copied_and_parts_of_a_lent_one_are_foreign(store):
    image = np.full(SHAPE, 9, np.uint8)
    own = store.upload(image)
    assert own is not image
    image[:] = 0
    assert (own == 9).all()
    lent = store.lend(SHAPE)
    lent[:] = np.arange(72).reshape(SHAPE)
    flipped = lent[:, ::-1]
    placed = store.put(flipped, store.stream)
    np.testing.assert_array_equal(on_gpu(placed), flipped)


def test_no_more_is_lent_than_may_be_but_every_frame_goes_up(store):
    held = [store.lend(SHAPE) for _ in range(NUM_LENT)]
    assert store.lend(SHAPE) is None
    assert store.put(np.zeros(SHAPE, np.uint8), store.stream).image.shape == SHAPE
    held.pop()
    assert store.lend(SHAPE) is None, "the copy is still kept for the classifier"
    held.pop()
    assert store.lend(SHAPE) is not None


def test_memory_of_another_size_is_given_back(store):
    kept = store.lend(SHAPE)
    kept[:] = 3
    del [store.lend(SHAPE) for _ in range(4)][:]
    before = store.cuda.ledger.allocations
    other = store.lend((8, 8, 3))
    assert other.shape == (8, 8, 3)
    assert store.cuda.ledger.allocations < before + 2
    assert (kept == 3).all()
    del kept, other
    assert store.close()
    assert store.cuda.ledger.allocations == 0


def test_frame_that_is_held_past_the_end_keeps_its_memory():
    cuda = make_pycuda()
    device = acquire(cuda)
    with device.current():
        image = device.frames.lend(SHAPE)
        device.frames.lend(SHAPE)
    image[:] = 5
    release(device)
    assert (image == 5).all()
    assert cuda.ledger.retained == 1, "the context that the memory belongs to"
    assert cuda.ledger.allocations == 2


def test_other_threads_need_the_context_and_get_it(store):
    seen = []

    def work():
        try:
            store.lend(SHAPE)
        except LogicError as error:
            seen.append(str(error))
        context = store.cuda.Device(0).retain_primary_context()
        context.push()
        seen.append(store.upload(np.ones(SHAPE, np.uint8)))
        store.cuda.Context.pop()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert "no currently active context" in seen[0]
    assert on_gpu(store.put(seen[1], store.stream)).min() == 1


def test_threads_that_lend_and_upload_at_once_never_share_a_picture(store):
    num_threads, num_kept = 4, NUM_LENT // 4 - 1
    kept = {}

    def work(index):
        context = store.cuda.Device(0).retain_primary_context()
        context.push()
        mine = []
        for value in range(40):
            image = store.lend(SHAPE)
            image[:] = 40 * index + value
            mine = [*mine, store.upload(image)][-num_kept:]
            del image
        kept[index] = mine
        store.cuda.Context.pop()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(num_threads)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval_s)
    assert sorted(kept) == list(range(num_threads))
    for index, images in kept.items():
        expected = [40 * index + value for value in range(40 - num_kept, 40)]
        assert [int(image.min()) for image in images] == expected
        placed = [on_gpu(store.put(image, store.stream)) for image in images]
        assert [(image.min(), image.max()) for image in placed] == [(n, n) for n in expected]
