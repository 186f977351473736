"""How fast a store may be asked: when it says "slow down" to one thread, all threads of the process wait together."""

import random
import threading
import time
from dataclasses import dataclass, field

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0  # what is still refused then waits in the ledger, with longer pauses


@dataclass
class Pace:
    """One pause for all threads: doubled when the store refuses again right after it, halved by each success."""

    first_seconds: float = FIRST_PAUSE_SECONDS
    longest_seconds: float = LONGEST_PAUSE_SECONDS
    _pause: float = field(default=0.0, init=False)  # of the last refusal; 0: the store takes all
    _until: float = field(default=0.0, init=False)  # on the monotonic clock
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False)

    def wait(self) -> None:
        """Until the store may be asked again; nobody waits while it takes all."""
        while (left := self._until - time.monotonic()) > 0:
            time.sleep(left)

    def slow_down(self) -> None:
        """The store has refused. What others had asked before the pause began is the same refusal."""
        with self._guard:
            now = time.monotonic()
            if now >= self._until:
                self._pause = min(self.longest_seconds, max(self.first_seconds, 2 * self._pause))
                self._until = now + self._pause * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret

    def went_well(self) -> None:
        """The store has answered."""
        if self._pause:
            with self._guard:
                self._pause = self._pause / 2 if self._pause > self.first_seconds else 0.0
