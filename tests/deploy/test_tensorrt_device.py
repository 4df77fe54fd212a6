"""The GPU's context: current inside a block, on the thread that is there, whatever happens."""

import threading

import pytest

from deploy.tensorrt_device import acquire, release
from tests.deploy.recorded_pycuda import make_pycuda


@pytest.fixture
def device():
    acquired = acquire(make_pycuda())
    yield acquired
    release(acquired)


def test_context_is_current_inside_the_block_only(device):
    stack = device.cuda.ledger.current
    assert len(stack) == 0
    with device.current():
        assert len(stack) == 1
        with device.current():
            assert len(stack) == 2
        assert len(stack) == 1
    assert len(stack) == 0


def test_context_is_given_up_by_an_error_that_leaves_the_block(device):
    with pytest.raises(ZeroDivisionError), device.current():
        raise ZeroDivisionError
    assert len(device.cuda.ledger.current) == 0


def test_each_thread_has_its_own(device):
    seen = []

    def look():
        seen.append(len(device.cuda.ledger.current))
        with device.current():
            seen.append(len(device.cuda.ledger.current))

    with device.current():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(60)
        assert len(device.cuda.ledger.current) == 1
    assert seen == [0, 1]
