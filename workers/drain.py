"""How a worker's children learn that they should stop at the next photo."""

import logging
import os
import signal
import threading
from collections.abc import Iterable

log = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR2  # Celery uses SIGUSR1 for its own soft time limit

draining = threading.Event()


def listen() -> None:
    """In a child: let the signal set `draining`. Must be called from the main thread."""
    signal.signal(DRAIN_SIGNAL, lambda _number, _frame: draining.set())


def ring_children(pids: Iterable[int], number: signal.Signals) -> None:
    """In the parent: signal every child that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            log.info("child %d had ended already", pid)
