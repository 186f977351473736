"""``python -m tests.chaos.supervised``: the product's supervisor over its three workers, as `pictograph up` runs it."""

import logging
import signal
import sys
import threading

from pictograph.supervisor import Supervisor
from pipeline.settings import Settings


def main() -> int:
    """Supervise until SIGTERM; 1 if another process supervises this home."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    with Supervisor(Settings.read()) as supervisor:
        if not supervisor.start_if_free():
            return 1
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
