"""One heartbeat per worker process: it renews the leases of whatever is being done, and says that we are alive."""

import logging
import threading

from sqlalchemy import Connection

from pipeline.errors import PictographError
from pipeline.ledger import work
from pipeline.ledger.work import SHARDS, WorkTable
from pipeline.store.session import Database
from workers.holdings import Holdings

log = logging.getLogger(__name__)

STUCK_SECONDS = 60.0  # without a photo coming through for so long, leases are not renewed


class Heart:
    """A thread with a rhythm. Use as a context manager."""

    def __init__(self, database: Database, worker_id: str, queue: str, lease_seconds: float) -> None:
        self.worker_id = worker_id
        self.lease_seconds = lease_seconds
        self.database = database
        self._queue = queue
        self._watched: tuple[Holdings, WorkTable, float] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more, and take this worker off the list."""
        self._stop.set()
        self._thread.join()
        try:
            self.database.run(lambda connection: work.forget_worker(connection, self.worker_id))
        except PictographError as exc:
            log.info("leaving without a word: %s", exc)

    def watch(self, holdings: Holdings | None, table: WorkTable = SHARDS, stuck_seconds: float = STUCK_SECONDS) -> None:
        """From now on renew these leases, unless nothing comes through for `stuck_seconds` (None: there are none)."""
        self._watched = None if holdings is None else (holdings, table, stuck_seconds)

    def _beat_on(self) -> None:
        pause = work.beat_seconds(self.lease_seconds)
        up = True
        while True:
            try:
                self._beat()
                if not up:
                    log.info("the database answers again")
                up = True
            except PictographError as exc:
                if up:
                    log.warning("no heartbeat: %s", exc)
                up = False
            except Exception:  # a worker without a heart loses its leases while it goes on: no bug may stop it
                log.exception("no heartbeat, for a reason that nobody thought of")
                up = False
            if self._stop.wait(pause):
                return

    def _beat(self) -> None:
        holdings, table, stuck_seconds = self._watched or (Holdings(), SHARDS, 0.0)
        leases = holdings.leases()
        moving = holdings.idle_seconds() < stuck_seconds

        def beat(connection: Connection) -> frozenset[int]:
            work.note_worker(connection, self.worker_id, self._queue, progressed=moving)
            return table.renew(connection, leases, self.lease_seconds) if leases and moving else frozenset()

        held = self.database.run(beat)  # renewing may cross a merge that finishes the same shards
        if moving:
            holdings.drop(lease for lease in leases if lease.work_id not in held)
