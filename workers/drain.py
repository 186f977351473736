"""How processes learn that they should stop: by signals that set an event.

An event must not be set in a signal's handler. The handler runs in the main thread between two of its instructions, and
if that thread is just inside the same event's `wait`, `set` waits for a lock that the thread itself holds, for ever. So
the handler only puts the signal's number into a queue, which may be interrupted by itself, and a thread sets the event.
"""

import logging
import os
import signal
import threading
from collections.abc import Iterable
from queue import SimpleQueue

log = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR2  # Celery uses SIGUSR1 for its own soft time limit

draining = threading.Event()


def set_on(event: threading.Event, *numbers: signal.Signals) -> None:
    """From now on these signals set `event`, and do nothing else. Must be called from the main thread."""
    arrived: SimpleQueue[int] = SimpleQueue()

    def hand_on() -> None:
        while True:
            arrived.get()
            event.set()

    threading.Thread(target=hand_on, name="signals", daemon=True).start()
    for number in numbers:
        signal.signal(number, lambda number, _frame: arrived.put(number))


def listen() -> None:
    """In a child: let the signal set `draining`. Must be called from the main thread."""
    set_on(draining, DRAIN_SIGNAL)


def ring_children(pids: Iterable[int], number: signal.Signals) -> None:
    """In the parent: signal every child that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            log.info("child %d had ended already", pid)
