"""What a stream costs: processor time by step, of our own threads and of the whole process."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The cost of one stream."""

    photos: int  # that were merged
    seconds: float  # on the clock
    cpu_seconds: Mapping[str, float]  # by step, of our own threads: fetch, decode, classify, ...
    process_cpu_seconds: float  # of all threads: the model's and the object store client's too, not the decode children
    starved_seconds: float  # in which the model had nothing to do

    def __str__(self) -> str:
        rate = self.photos / self.seconds if self.seconds else 0.0
        steps = ", ".join(f"{step} {spent:.2f}" for step, spent in sorted(self.cpu_seconds.items()))
        return (
            f"{self.photos:,} photos in {self.seconds:.2f} s, {rate:,.0f} a second; "
            f"seconds of processor time: {self.process_cpu_seconds:.2f} in all, by our threads {steps}; "
            f"the model waited {self.starved_seconds:.2f} s"
        )


class Stopwatch:
    """Adds up what one stream costs. Threads share it.

    Processor time, because on cores that others share a step's time on the clock says how long it waited.
    """

    def __init__(self) -> None:
        self._cpu_seconds: dict[str, float] = {}
        self._starved = 0.0
        self._began = time.perf_counter()
        self._process_began = time.process_time()
        self._guard = threading.Lock()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the processor time that this thread spends inside to `step`."""
        start = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - start
            with self._guard:
                self._cpu_seconds[step] = self._cpu_seconds.get(step, 0.0) + spent

    @contextmanager
    def starved(self) -> Iterator[None]:
        """Count the time on the clock as waiting of the model's; for one thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._starved += time.perf_counter() - start

    def read(self, photos: int) -> Effort:
        """What was spent since the beginning, for so many photos."""
        with self._guard:
            return Effort(
                photos=photos,
                seconds=time.perf_counter() - self._began,
                cpu_seconds=dict(self._cpu_seconds),
                process_cpu_seconds=time.process_time() - self._process_began,
                starved_seconds=self._starved,
            )
