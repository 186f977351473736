"""What a tree of processes uses: processor time, exactly; memory, by looking now and then."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

LOOK_SECONDS = 2.0  # between looks at the memory: for each gigabyte, one costs 20 ms of the same processors
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

    With every living process of a tree it is what the tree has used: the kernel adds a process's time to its parent's
    when the parent takes note of its end.
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
    """Looks at a tree's memory from time to time, and once more when stopped; keeps the peaks."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = Memory(shared_out=0.0, largest=0.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while True:
            now = memory(tree(self._pid))
            self._peak = Memory(
                shared_out=max(self._peak.shared_out, now.shared_out), largest=max(self._peak.largest, now.largest)
            )
            if self._stopped.is_set():
                return
            self._stopped.wait(LOOK_SECONDS)

    def stop(self) -> Memory:
        """The peaks; nothing is looked at any more."""
        self._stopped.set()
        self._thread.join()
        return self._peak


def end(pid: int) -> None:
    """Kill a tree that was started here and does not end by itself."""
    for process in reversed(tree(pid)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
