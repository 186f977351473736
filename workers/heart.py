"""One heartbeat per worker process: it renews the leases of whatever is being done, and says that we are alive."""

import logging
import os
import socket
import threading
import time

from sqlalchemy import Connection

from pipeline.crashpoints import Point, reached
from pipeline.errors import PictographError
from pipeline.ledger import roster
from pipeline.ledger.roster import Sign
from pipeline.ledger.work import SHARDS, WorkTable
from pipeline.store.session import Database
from workers.holdings import Holdings
from workers.troubles import DATABASE, Troubles

log = logging.getLogger(__name__)

FIRST_BEAT_SECONDS = 5.0  # how long who starts waits to be on the list; a database that is away must not hold it up
STUCK_SECONDS = 60.0  # without a photo coming through for so long, leases are not renewed


class Heart:
    """A thread with a rhythm. Use as a context manager."""

    def __init__(
        self, database: Database, worker_id: str, queue: str, lease_seconds: float, process_id: int | None = None
    ) -> None:
        self.worker_id = worker_id
        self.lease_seconds = lease_seconds
        self.database = database
        self.queue = queue
        self.host = socket.gethostname()
        self.troubles = Troubles()
        self._process_id = process_id or os.getpid()  # what a supervisor started
        self._rung_at: float | None = None
        self._watched: tuple[Holdings, WorkTable, float] | None = None
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._listed = threading.Event()  # a first beat was tried
        self._thread = threading.Thread(target=self._beat_on, name="heart", daemon=True)

    def start(self) -> None:
        """Begin to beat: from now on this process is on the list."""
        self._thread.start()
        self._listed.wait(FIRST_BEAT_SECONDS)

    def listen_to(self, queue: str) -> None:
        """This process is ready to be rung for work of this queue."""
        self.queue = queue
        self._listed.clear()
        self._hurry.set()
        self._listed.wait(FIRST_BEAT_SECONDS)

    def stop(self) -> None:
        """Beat no more, and take this worker off the list."""
        self._stop.set()
        self._hurry.set()
        self._thread.join()
        try:
            self.database.run(lambda connection: roster.forget_worker(connection, self.worker_id))
        except PictographError as exc:
            log.info("leaving without a word: %s", exc)

    def watch(self, holdings: Holdings | None, table: WorkTable = SHARDS, stuck_seconds: float = STUCK_SECONDS) -> None:
        """From now on renew these leases, unless nothing comes through for `stuck_seconds` (None: there are none)."""
        self._watched = None if holdings is None else (holdings, table, stuck_seconds)
        self.rung()

    def rung(self) -> None:
        """A message has reached this process, or it has just had work in hand."""
        self._rung_at = time.monotonic()

    def _beat_on(self) -> None:
        pause = roster.beat_seconds(self.lease_seconds)
        up = True
        while True:
            try:
                self._beat()
                if not up:
                    log.info("the database answers again")
                up = True
                self.troubles.over(DATABASE)
            except PictographError as exc:
                if up:
                    log.warning("no heartbeat: %s", exc)
                up = False
                self.troubles.met(DATABASE, str(exc))
            except Exception:  # a worker without a heart loses its leases while it goes on: no bug may stop it
                log.exception("no heartbeat, for a reason that nobody thought of")
                up = False
            self._listed.set()
            self._hurry.wait(pause)
            self._hurry.clear()
            if self._stop.is_set():
                return

    def _beat(self) -> None:
        holdings, table, stuck_seconds = self._watched or (Holdings(), SHARDS, 0.0)
        leases = holdings.leases()
        moving = holdings.idle_seconds() < stuck_seconds
        if leases:
            self.rung()
        sign = self._sign(progressed=moving)

        def beat(connection: Connection) -> frozenset[int]:
            taken_back = roster.note(connection, sign, self.lease_seconds)
            if taken_back:
                log.info("this worker was taken for dead; %d shards are told that it was not", taken_back)
            return table.renew(connection, leases, self.lease_seconds) if leases and moving else frozenset()

        reached(Point.HEARTBEAT_BEFORE)
        held = self.database.run(beat)  # renewing may cross a merge that finishes the same shards
        if moving:
            holdings.drop(lease for lease in leases if lease.work_id not in held)

    def _sign(self, *, progressed: bool) -> Sign:
        return Sign(
            worker_id=self.worker_id,
            queue=self.queue,
            host=self.host,
            process_id=self._process_id,
            progressed=progressed,
            rung_seconds=None if self._rung_at is None else time.monotonic() - self._rung_at,
            trouble=self.troubles.sentence(),
        )
