"""What a process waits for, by service. Threads share it; the heart writes it where others can see it."""

import threading
import time

BROKER, DATABASE, STORE, MODEL = "broker", "database", "store", "model"

LONGEST_SECONDS = 660.0  # who waits asks again within ten minutes; trouble that nobody meets for longer is over


class Troubles:
    """The services that did not do what was asked of them the last time, and what they said."""

    def __init__(self) -> None:
        self._met: dict[str, tuple[str, float]] = {}
        self._guard = threading.Lock()

    def met(self, service: str, sentence: str) -> None:
        """This service has just refused."""
        with self._guard:
            self._met[service] = sentence, time.monotonic()

    def over(self, service: str) -> None:
        """This service has just done what was asked."""
        if service in self._met:  # the usual case costs nothing
            with self._guard:
                self._met.pop(service, None)

    def sentence(self) -> str | None:
        """What is waited for longest; None: nothing."""
        with self._guard:
            young = time.monotonic() - LONGEST_SECONDS
            self._met = {service: said for service, said in self._met.items() if said[1] > young}
            return next((sentence for sentence, _ in self._met.values()), None)
