"""Processor time and memory of everybody who takes part, read from the kernel.

How nothing is counted twice, or lost
1. A process that has ended is in the `children` times of whoever waited for it. So a tree's time is that of its live
   processes, each with its reaped children: replaced decode children and ended database sessions included.
2. Should a process end, or start, while a tree is being read, the tree is read again.
3. The kernel tells times to a hundredth of a second for each process. Measure a second or more.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from pictograph.benching.figures import Spent, Stretch
from pipeline.errors import ServiceDown

READ_ATTEMPTS = 10
MEMORY_SECONDS = 0.2  # between two looks at the memory; each takes a thousandth of it, or less


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """All that was spent until now."""

    at: float  # seconds of the clock
    spent: Spent
    machine: float | None  # processor seconds of the whole machine; None: it would not be ours

    def until(self, later: "Reading", photos: int) -> Stretch:
        """What lies between two readings."""
        cpu = later.spent - self.spent
        elsewhere = None
        if self.machine is not None and later.machine is not None:
            elsewhere = max(0.0, later.machine - self.machine - cpu.total)
        return Stretch(photos=photos, seconds=later.at - self.at, cpu=cpu, elsewhere=elsewhere)


class Meter:
    """Reads this process, its children, and the servers below a keeper."""

    def __init__(self, keeper_pid: int, cores: float) -> None:
        self._own = psutil.Process()
        self._keeper = psutil.Process(keeper_pid)
        # With fewer cores than the machine has, what its other cores do is no disturbance of ours.
        self._whole_machine = cores == os.cpu_count()

    def read(self) -> Reading:
        """Now.

        Raises:
            ServiceDown: the servers have ended.
        """
        children = _below(self._own)
        servers = _below(self._keeper)
        reaped = self._own.cpu_times()
        spent = Spent(
            own=time.process_time(),
            decoders=reaped.children_user + reaped.children_system + sum(children.values()),
            postgres=servers.pop("postgres", 0.0),
            s3=servers.pop("weed", 0.0),
            others=sum(servers.values()) + _seconds(self._keeper),
        )
        return Reading(at=time.perf_counter(), spent=spent, machine=_machine() if self._whole_machine else None)


@contextmanager
def peak_memory(children: Callable[[], list[int]]) -> "Iterator[Peak]":
    """While the block runs, look at the resident memory of this process and of its `children`, by their ids."""
    peak = Peak(children)
    thread = threading.Thread(target=peak.watch, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        peak.over.set()
        thread.join()


class Peak:
    """The most resident memory that was seen. What processes share is counted in each of them."""

    def __init__(self, children: Callable[[], list[int]]) -> None:
        self.bytes = 0
        self.over = threading.Event()
        self._children = children

    def watch(self) -> None:
        """Look until it is over, and at least once."""
        while True:
            self.bytes = max(self.bytes, self._resident())
            if self.over.wait(MEMORY_SECONDS):
                return

    def _resident(self) -> int:
        total = 0
        for pid in (os.getpid(), *self._children()):
            with suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total


def _below(root: psutil.Process) -> dict[str, float]:
    """Processor seconds of everything below a process, by name; see the head of this file."""
    for _ in range(READ_ATTEMPTS):
        with suppress(psutil.NoSuchProcess):
            processes = root.children(recursive=True)
            spent: defaultdict[str, float] = defaultdict(float)
            for process in processes:
                spent[process.name()] += _seconds(process)
            if set(root.children(recursive=True)) == set(processes):
                return dict(spent)
    raise ServiceDown("The processes to be measured come and go too fast, or the servers have ended.")


def _seconds(process: psutil.Process) -> float:
    """Processor seconds of a process and of the children that it has seen out."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _machine() -> float:
    """Processor seconds of everybody, since the machine was started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
