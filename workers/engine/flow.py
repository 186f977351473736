"""What stands between the threads of a stream: channels, and budgets of what may be under way. All thread-safe.

A channel has no bound of its own. What is in it belongs to a held shard, of which a stream holds few; what takes memory
is bounded where it lies: fetched photos by budgets, pixels by the ring of `workers.engine.slots`.
"""

import itertools
import math
import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Aborted(Exception):
    """Another thread of the stream has failed; nothing more is passed on."""


class _End:
    """The last thing in a closed channel."""


_END = _End()


class Channel(Generic[T]):
    """From any number of threads to any number of threads, in order, until it is closed."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()

    def put(self, item: T) -> None:
        """Pass it on; never waits."""
        self._items.put(item)

    def close(self) -> None:
        """Say that nothing more will come."""
        self._items.put(_END)

    def take(self, timeout: float | None = None) -> T | None:
        """The next item, None once all is taken and the channel closed; queue.Empty after the time-out (seconds)."""
        item = self._items.get(timeout=timeout)
        if isinstance(item, _End):
            self._items.put(item)  # for the next to ask
            return None
        return item

    def __iter__(self) -> Iterator[T]:
        """All items until it is closed."""
        while (item := self.take()) is not None:
            yield item


class Ranked(Channel[T]):
    """A channel in which what is more urgent overtakes what was put before it; of equal rank, first come, first out."""

    def __init__(self) -> None:
        self._items: queue.PriorityQueue[tuple[float, int, T | _End]] = queue.PriorityQueue()  # type: ignore[assignment]
        self._turns = itertools.count()  # no two entries are equal, so that items are never compared

    def put(self, item: T, rank: int = 0) -> None:
        """Pass it on, before all of a lower rank; never waits."""
        self._items.put((-rank, next(self._turns), item))

    def close(self) -> None:
        """Say that nothing more will come; what has come is taken first."""
        self._items.put((math.inf, next(self._turns), _END))

    def take(self, timeout: float | None = None) -> T | None:
        """As a channel's, foremost first."""
        _, _, item = self._items.get(timeout=timeout)
        if isinstance(item, _End):
            self.close()  # for the next to ask
            return None
        return item


class Budget:
    """How much may be in hand at a time, in the order of asking. One piece larger than all of it passes alone.

    Once it is used up, nobody passes until no more than `resume` is in hand: work then comes in bursts.
    """

    def __init__(self, limit: int, resume: int | None = None) -> None:
        self.limit = limit
        self._resume = limit if resume is None else resume
        self._used = 0
        self._used_up = False
        self._aborted = False
        self._turn = threading.Lock()  # who waits for room keeps it, so that smaller pieces do not overtake for ever
        self._freed = threading.Condition()

    def acquire(self, amount: int) -> None:
        """Wait for room; Aborted where there will be none."""
        with self._turn, self._freed:
            while self._used and (self._used_up or self._used + amount > self.limit):
                if self._aborted:
                    raise Aborted
                self._used_up = True
                self._freed.wait()
            self._used += amount

    def release(self, amount: int) -> None:
        """So much is done with."""
        with self._freed:
            self._used -= amount
            if self._used <= self._resume:
                self._used_up = False
            if not self._used_up:
                self._freed.notify()

    def abort(self) -> None:
        """Nobody is to wait any more."""
        with self._freed:
            self._aborted = True
            self._freed.notify()
