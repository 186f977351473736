"""What a tree of processes uses: processor time, and memory at its peak."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import psutil

LOOK_SECONDS = 0.5
LOOKS_A_MEMORY = 4  # looks for one at the memory, which for each gigabyte costs 20 ms of the same processors
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Megabytes of a tree at one time."""

    shared_out: float  # what its processes share counts once (proportional set size)
    largest: float  # of the largest process, what is resident


def tree(pid: int) -> list[psutil.Process]:
    """The living processes of a tree, its root first; none if the root has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Processor time that these processes and those of their children that have ended have used so far.

    With every living process of a tree it is what the tree has used, as the kernel adds a process's time to its
    parent's when the parent takes note of its end; of those whose parents do not, it is missing.
    """
    used = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # ended since it was listed; its parent's times have it
        used += times.user + times.system + times.children_user + times.children_system
    return used


def memory(processes: Iterable[psutil.Process]) -> Memory:
    """What the processes hold now. One that may not be looked into counts with all that is resident."""
    shared_out, largest = 0, 0
    for process in processes:
        try:
            resident = process.memory_info().rss
            try:
                shared_out += process.memory_full_info().pss
            except psutil.AccessDenied:
                shared_out += resident
        except psutil.NoSuchProcess:
            continue
        largest = max(largest, resident)
    return Memory(shared_out=shared_out / MEGABYTE, largest=largest / MEGABYTE)


class Watch:
    """Looks at a tree from time to time, and once more when stopped.

    It keeps the peaks of the memory, and the processor time of each process it has met, also of those that have ended
    since: where a process ignores the end of its children, as Ray's do, the kernel passes their time on to nobody.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = Memory(shared_out=0.0, largest=0.0)
        self._used = self._before = self._own_seconds()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        for number in count():
            last = self._stopped.is_set()
            self._used = {**self._used, **self._own_seconds()}
            if last or number % LOOKS_A_MEMORY == 0:
                self._look_at_memory()
            if last:
                return
            self._stopped.wait(LOOK_SECONDS)

    def _look_at_memory(self) -> None:
        now, peak = memory(tree(self._pid)), self._peak
        self._peak = Memory(shared_out=max(peak.shared_out, now.shared_out), largest=max(peak.largest, now.largest))

    def _own_seconds(self) -> dict[tuple[int, float], float]:
        """Of each living process, by number and start, without its children."""
        found = {}
        for process in tree(self._pid):
            try:
                times = process.cpu_times()
                found[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue  # what it has used since the last look is lost
        return found

    def stop(self) -> "Usage":
        """What there was; nothing is looked at any more."""
        self._stopped.set()
        self._thread.join()
        spent = sum(seconds - self._before.get(process, 0.0) for process, seconds in self._used.items())
        return Usage(cpu_seconds=spent, peak=self._peak)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a watch has seen."""

    cpu_seconds: float  # at least: what came and went between two looks is missing
    peak: Memory


def end(pid: int) -> None:
    """Kill a tree that was started here and does not end by itself."""
    for process in reversed(tree(pid)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
