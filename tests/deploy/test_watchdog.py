"""The watchdog: once for a block that is late, never for one in time."""

import time

import pytest

from deploy.watchdog import watching


@pytest.mark.parametrize(("lasts_s", "calls"), [(0.0, 0), (0.05, 0), (0.5, 1)])
def test_late_block_is_noticed_once_while_it_lasts(lasts_s, calls):
    noticed = []
    with watching(0.15, lambda: noticed.append(time.monotonic())) as watchdog:
        began_s = time.monotonic()
        with watchdog.guard() as is_late:
            time.sleep(lasts_s)
        assert is_late() is bool(calls)
    assert len(noticed) == calls
    assert all(0.15 <= at_s - began_s < 0.4 for at_s in noticed)


def test_each_block_has_its_own_deadline():
    noticed = []
    with watching(0.1, lambda: noticed.append(1)) as watchdog:
        for lasts_s in (0.25, 0.02, 0.25):
            with watchdog.guard():
                time.sleep(lasts_s)
    assert len(noticed) == 2


def test_time_between_blocks_does_not_count():
    noticed = []
    with watching(0.1, lambda: noticed.append(1)) as watchdog:
        with watchdog.guard():
            pass
        time.sleep(0.3)
    assert noticed == []


def test_without_a_deadline_nothing_is_noticed():
    noticed = []
    with watching(float("inf"), lambda: noticed.append(1)) as watchdog, watchdog.guard():
        time.sleep(0.05)
    assert noticed == []


def test_block_that_raises_is_over():
    noticed = []
    with watching(0.1, lambda: noticed.append(1)) as watchdog:
        with pytest.raises(KeyError), watchdog.guard():
            raise KeyError
        time.sleep(0.3)
    assert noticed == []
