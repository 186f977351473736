"""This machine's circuit breaker, as a worker process uses it. The laws: `pipeline.ledger.breaker`."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.errors import BackendDown, PictographError
from pipeline.ledger import breaker
from pipeline.store.session import Database
from workers.heart import Heart
from workers.troubles import MODEL

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # while it waits; another process on this machine may have found the model well
LONGEST_REASON = 300  # characters


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The breaker of one queue on this machine."""

    database: Database
    heart: Heart
    queue: str
    first_seconds: float  # the pause after the first failure

    def wait(self, stop: threading.Event) -> None:
        """Until the model may be tried again, or `stop` is set. ServiceDown if the database is away."""
        while not stop.is_set():
            left, reason = self.database.run(self._look)
            if left <= 0:
                return
            self.heart.troubles.met(MODEL, reason or "")
            stop.wait(min(left, LOOK_SECONDS))

    def works(self) -> None:
        """The model has passed its canaries here."""

        def close(connection: Connection) -> tuple[bool, int]:
            was_open = breaker.close(connection, self.queue, self.heart.host)
            return was_open, breaker.convict(connection, self.queue, self.heart.host)

        was_open, convicted = self.database.run(close)
        self.heart.troubles.over(MODEL)
        if was_open:
            log.warning("the model of %s works again on %s", self.queue, self.heart.host)
        if convicted:
            log.warning("the device is well: what it was lost over counts as a death of %d shards", convicted)

    def cannot_start(self, error: BaseException) -> BackendDown:
        """The model could not be loaded, or fails its canaries, in a fresh process: no photo has to do with it."""

        def fail(connection: Connection) -> breaker.Opened:
            breaker.acquit(connection, self.queue, self.heart.host)
            return self._fail(connection, error)

        self._open(lambda: self.database.run(fail))
        return BackendDown(_as_text(error))

    def broke(self, error: BackendDown) -> None:
        """The model has stopped working in this process."""
        self._open(lambda: self.database.run(lambda connection: self._fail(connection, error)))

    def _look(self, connection: Connection) -> tuple[float, str | None]:
        where = self.queue, self.heart.host
        return breaker.pause_seconds(connection, *where), breaker.reason(connection, *where)

    def _fail(self, connection: Connection, error: BaseException) -> breaker.Opened:
        return breaker.fail(connection, self.queue, self.heart.host, _as_text(error), self.first_seconds)

    def _open(self, fail: Callable[[], breaker.Opened]) -> None:
        try:
            opened = fail()
        except PictographError as exc:
            log.warning("that the model of %s does not work cannot be written down: %s", self.queue, exc)
            return
        if opened.newly:
            what = self.queue, self.heart.host
            when = f"{opened.next_attempt_at:%H:%M:%S} UTC"
            log.error("the model of %s does not work on %s, next attempt at %s: %s", *what, when, opened.reason)


def _as_text(error: BaseException) -> str:
    """An error as one sentence that Postgres can hold."""
    said = str(error) if isinstance(error, PictographError) else f"{type(error).__name__}: {error}"
    words = said.replace("\0", "").encode(errors="backslashreplace").decode()
    return " ".join(words.split())[:LONGEST_REASON]
