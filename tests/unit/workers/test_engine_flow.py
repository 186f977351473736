"""What stands between the threads: channels end once for everybody, and bytes are bounded in the order of asking."""

import queue
import threading
import time

import pytest

from workers.engine.flow import Aborted, Budget, Channel, Ranked

SOON = 10.0  # seconds, until a thread is taken to hang


def started(step):
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(SOON)
    return not thread.is_alive()


def until(seen):
    deadline = time.monotonic() + SOON
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_channel_ends_for_every_taker_once_all_is_taken():
    channel, taken = Channel(), []
    takers = [started(lambda: taken.extend(channel)) for _ in range(4)]
    for n in range(100):
        channel.put(n)
    channel.close()
    assert all(map(ended, takers))
    assert sorted(taken) == list(range(100))
    assert channel.take() is None  # and stays so


def test_an_open_channel_with_nothing_in_it_is_no_closed_one():
    with pytest.raises(queue.Empty):
        Channel().take(timeout=0.01)


def test_the_more_urgent_overtakes_and_equals_keep_their_order():
    channel = Ranked()
    for item, rank in (("a", 0), ("b", 0), ("urgent", 50), ("slow", -5), ("urgent too", 50), ("c", 0)):
        channel.put(item, rank=rank)
    channel.close()
    channel.put("late", rank=9)  # what comes after the end is taken before it
    assert list(channel) == ["urgent", "urgent too", "late", "a", "b", "c", "slow"]
    assert channel.take() is None  # and stays so


def test_a_ranked_channel_ends_for_every_taker_and_compares_no_items():
    channel, taken = Ranked(), []
    takers = [started(lambda: taken.extend(channel)) for _ in range(4)]
    things = [object() for _ in range(100)]
    for thing in things:
        channel.put(thing)
    channel.close()
    assert all(map(ended, takers))
    assert set(taken) == set(things)
    with pytest.raises(queue.Empty):
        Ranked().take(timeout=0.01)


def test_bytes_wait_for_room():
    budget, passed = Budget(100), []
    budget.acquire(60)
    budget.acquire(40)

    def next_one():
        budget.acquire(1)
        passed.append(1)

    waiting = started(next_one)
    waiting.join(0.05)
    assert passed == []
    budget.release(40)
    assert ended(waiting)


def test_more_than_the_whole_budget_passes_alone():
    budget = Budget(100)
    budget.acquire(1000)
    waiting = started(lambda: budget.acquire(1))
    waiting.join(0.05)
    assert waiting.is_alive()
    budget.release(1000)
    assert ended(waiting)


def test_small_pieces_do_not_overtake_a_large_one_that_waits():
    budget, order = Budget(100), []
    budget.acquire(50)

    def ask(amount):
        budget.acquire(amount)
        order.append(amount)
        budget.release(amount)

    large = started(lambda: ask(90))
    until(budget._turn.locked)
    small = started(lambda: ask(10))  # there would be room for it
    small.join(0.05)
    assert order == []
    budget.release(50)
    assert ended(large)
    assert ended(small)
    assert order == [90, 10]


def test_who_waits_for_bytes_ends_when_the_stream_does():
    budget, ends = Budget(100), []

    def ask():
        with pytest.raises(Aborted):
            budget.acquire(50)
        ends.append(True)

    budget.acquire(100)
    waiting = [started(ask) for _ in range(3)]
    budget.abort()
    assert all(map(ended, waiting))
    assert ends == [True] * 3


def test_a_used_up_budget_opens_again_when_little_is_left():
    budget, passed = Budget(4, resume=1), []
    for _ in range(4):
        budget.acquire(1)

    def next_two():
        for _ in range(2):
            budget.acquire(1)
            passed.append(1)

    waiting = started(next_two)
    for _ in range(2):
        waiting.join(0.05)
        budget.release(1)
    waiting.join(0.05)
    assert passed == []  # two are left, and one may be
    budget.release(1)
    assert ended(waiting)
