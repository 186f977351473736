"""The last step of the stream: results gathered into transactions, in a thread and with a connection of its own."""

import logging
import queue
import time
from dataclasses import dataclass, field

from pipeline.errors import ServiceDown
from pipeline.records import Lease, PhotoResult
from pipeline.store.catalogue import Registered
from pipeline.store.merge import Merged, merge
from pipeline.store.session import Database
from workers.holdings import Holdings
from workers.timing import Stopwatch

log = logging.getLogger(__name__)

MOST_PHOTOS = 512  # per transaction
LONGEST_WAIT_SECONDS = 1.0  # a result waits at most so long for company
PAUSE_SECONDS = 1.0  # between tries while the database is away


@dataclass(kw_only=True)
class Merger:
    """Merges results as they come; finishes each shard with its last one."""

    database: Database
    registered: Registered
    holdings: Holdings
    patience_seconds: float
    outage_seconds: float  # how long the results wait in memory for a database that is away
    watch: Stopwatch
    photos: int = 0
    _complete: list[Lease] = field(default_factory=list)

    def drain(self, results: "queue.Queue[PhotoResult | None]") -> None:
        """Merge until None comes; raises ServiceDown after an outage that is too long."""
        batch: list[PhotoResult] = []
        oldest = time.monotonic()
        while True:
            try:
                result = results.get(timeout=LONGEST_WAIT_SECONDS / 4)
            except queue.Empty:
                pass
            else:
                if result is None:
                    break
                oldest = oldest if batch else time.monotonic()
                batch.append(result)
                self._complete += self.holdings.landed([result.task.shard_id])
            late = time.monotonic() - oldest > LONGEST_WAIT_SECONDS
            if self._complete or len(batch) >= MOST_PHOTOS or (batch and late):
                self._merge(batch)
                batch = []
        if batch:
            self._merge(batch)

    def finish(self, lease: Lease) -> None:
        """Finish a shard in which nothing is open; called by the feeder, before any of its photos could be here."""
        self._in_one_transaction([], [lease])
        self.holdings.drop([lease.work_id])  # finished, or lost to another worker

    def _merge(self, batch: list[PhotoResult]) -> None:
        complete, self._complete = self._complete, []
        with self.watch.timed("merge"):
            merged = self._through_outages(batch, complete)
        self.photos += len(batch)
        lost = {lease.work_id for lease in complete} - merged.finished
        if lost:
            log.warning("lost the lease of shards %s; their results are stored all the same", sorted(lost))
        self.holdings.drop([lease.work_id for lease in complete])

    def _through_outages(self, batch: list[PhotoResult], leases: list[Lease]) -> Merged:
        until = time.monotonic() + self.outage_seconds
        while True:
            try:
                return self._in_one_transaction(batch, leases)
            except ServiceDown as exc:
                if time.monotonic() > until:
                    raise
                log.warning("%d results wait: %s", len(batch), exc)
                time.sleep(PAUSE_SECONDS)

    def _in_one_transaction(self, batch: list[PhotoResult], leases: list[Lease]) -> Merged:
        return self.database.run(
            lambda connection: merge(
                connection,
                model_id=self.registered.model_id,
                decision_rev=self.registered.decision_rev,
                results=batch,
                leases=leases,
                patience_seconds=self.patience_seconds,
            )
        )
