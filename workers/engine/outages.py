"""A database that is away for a moment costs a moment: what was asked of it is asked again."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.errors import ServiceDown
from workers.troubles import DATABASE, Troubles

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 1.0  # between tries


def _never() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for a service that is away, and whether there is still a reason to."""

    seconds: float
    hurried: Callable[[], bool] = _never
    troubles: Troubles = field(default_factory=Troubles)

    def outlast(self, ask: Callable[[], T], waiting: str) -> T:
        """What `ask` returns, once it does; it must be safe to repeat. ServiceDown after an outage that is too long."""
        until = time.monotonic() + self.seconds
        while True:
            try:
                answer = ask()
            except ServiceDown as exc:
                self.troubles.met(DATABASE, str(exc))
                if time.monotonic() > until or self.hurried():
                    raise
                log.warning("%s: %s", waiting, exc)
                time.sleep(PAUSE_SECONDS)
            else:
                self.troubles.over(DATABASE)
                return answer
