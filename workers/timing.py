"""How long each step takes, summed over its threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent per step, summed over threads; waiting for the next photo does not count."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._guard = threading.Lock()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time spent inside to `step`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._guard:
                self._seconds[step] = self._seconds.get(step, 0.0) + spent

    def seconds(self) -> dict[str, float]:
        """Seconds per step so far."""
        with self._guard:
            return dict(self._seconds)

    def __str__(self) -> str:
        return ", ".join(f"{step} {spent:.2f} s" for step, spent in self.seconds().items())
