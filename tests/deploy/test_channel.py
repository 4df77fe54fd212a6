"""Two threads and a bounded queue: order, dropping, closing, errors."""

import threading
import time

import pytest

from deploy.channel import Channel


def fill(channel, items, error=None):
    """Put the items from another thread, then finish; returns the thread."""

    def work():
        for item in items:
            if not channel.put(item):
                return
        channel.finish(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_arrive_in_order_and_completely(depth):
    channel = Channel(depth)
    thread = fill(channel, range(50))
    assert list(channel) == list(range(50))
    thread.join()
    assert channel.dropped == 0


def collect(items, seen):
    """Append each item to `seen`, so that those before an error are kept."""
    for item in items:
        seen.append(item)


def test_nothing_put_is_nothing_read():
    channel = Channel(2)
    channel.finish()
    assert list(channel) == []


def test_full_channel_drops_the_oldest_when_told_to():
    channel = Channel(2, drop_oldest=True)
    for item in range(5):
        assert channel.put(item)
    channel.finish()
    assert list(channel) == [3, 4]
    assert channel.dropped == 3


def test_error_of_the_writer_comes_after_its_items():
    channel = Channel(5)
    thread = fill(channel, [1, 2], error=RuntimeError("gone"))
    seen = []
    with pytest.raises(RuntimeError, match="gone"):
        collect(channel, seen)
    thread.join()
    assert seen == [1, 2]


def test_close_frees_a_waiting_writer():
    channel = Channel(1)
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(channel.put(n) for n in range(3)))
    thread.start()
    while not answers:
        time.sleep(0.001)
    channel.close()
    thread.join(5)
    assert not thread.is_alive()
    assert answers[0] is True
    assert answers[-1] is False


def test_interrupt_ends_a_waiting_reader():
    channel = Channel(1)
    timer = threading.Timer(0.05, channel.interrupt)
    timer.start()
    started = time.perf_counter()
    assert list(channel) == []
    assert time.perf_counter() - started < 5
    timer.join()


def test_claimed_item_is_the_next_one_and_is_not_dropped():
    channel = Channel(1, drop_oldest=True)
    assert channel.claim() is None
    channel.put(0)
    assert channel.claim() == 0
    for item in (1, 2):
        channel.put(item)
    assert channel.claim() == 0
    channel.finish()
    assert list(channel) == [0, 2]
    assert channel.dropped == 1
    assert channel.claim() is None


def test_claim_makes_room_for_a_writer_that_waits():
    channel = Channel(1)
    writer = threading.Thread(target=lambda: [channel.put(item) for item in range(3)])
    writer.start()
    reader = iter(channel)
    assert next(reader) == 0
    while channel.claim() is None:
        pass
    assert [next(reader), next(reader)] == [1, 2]
    writer.join(10)
    assert not writer.is_alive()


def test_claimed_item_comes_before_the_writers_error():
    channel = Channel(2)
    channel.put(0)
    assert channel.claim() == 0
    channel.finish(OSError("gone"))
    reader = iter(channel)
    assert next(reader) == 0
    with pytest.raises(OSError, match="gone"):
        next(reader)


def test_item_that_is_dropped_while_it_is_claimed_is_not_yielded():
    channel = Channel(1, drop_oldest=True)
    claimed, taken = [], []

    def put():
        for item in range(20000):
            channel.put(item)
        channel.finish()

    writer = threading.Thread(target=put)
    writer.start()
    for item in channel:
        taken.append(item)
        claimed.append(channel.claim())
    writer.join(10)
    assert taken == sorted(set(taken))
    assert len(taken) + channel.dropped == 20000
    for promised, came in zip(claimed, taken[1:]):
        assert promised in (None, came)
