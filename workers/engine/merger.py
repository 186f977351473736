"""The last step of the stream: results gathered into transactions, in a thread and with a connection of its own."""

import logging
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.crashpoints import Point, reached
from pipeline.records import Lease, PhotoResult
from pipeline.store.catalogue import Registered
from pipeline.store.merge import Merged, merge
from pipeline.store.session import Database
from workers.engine.flow import Channel
from workers.engine.outages import Patience
from workers.engine.twins import Twins
from workers.holdings import Holdings

log = logging.getLogger(__name__)

MOST_PHOTOS = 512  # per transaction
LONGEST_WAIT_SECONDS = 1.0  # a result waits at most so long for company


@dataclass(kw_only=True)
class Merger:
    """Merges results as they come; finishes each shard with its last one."""

    database: Database
    registered: Registered
    holdings: Holdings
    twins: Twins  # of whose leaders results come by here
    patience_seconds: float  # how long a photo may be delayed before it is given up
    patience: Patience  # with a database that is away, while the results wait in memory
    photos: int = 0
    _batch: list[PhotoResult] = field(default_factory=list)
    _complete: list[Lease] = field(default_factory=list)
    _oldest: float = 0.0  # when the first of the batch came

    def drain(self, results: Channel[list[PhotoResult]]) -> None:
        """Merge until the channel is closed; ServiceDown after an outage that is too long."""
        while True:
            try:
                arrived = results.take(timeout=LONGEST_WAIT_SECONDS / 4)
            except queue.Empty:
                arrived = []
            if arrived is None:
                break
            self._gather(self.twins.settled(arrived))
            if self._batch and time.monotonic() - self._oldest > LONGEST_WAIT_SECONDS:
                self._merge()
        if self._batch:
            self._merge()

    def finish(self, lease: Lease) -> None:
        """Finish a shard in which nothing is open; called by the feeder, before any of its photos could be here."""
        self.patience.outlast(lambda: self._in_one_transaction([], [lease]), "an empty shard waits")
        self.holdings.drop([lease])  # finished, or lost to another worker

    def _gather(self, arrived: Sequence[PhotoResult]) -> None:
        while arrived:
            room = MOST_PHOTOS - len(self._batch)
            fitting, arrived = arrived[:room], arrived[room:]
            if not self._batch:
                self._oldest = time.monotonic()
            self._batch += fitting
            self._complete += self.holdings.landed(result.task for result in fitting)
            if self._complete or len(self._batch) >= MOST_PHOTOS:
                self._merge()

    def _merge(self) -> None:
        batch, self._batch = self._batch, []
        complete, self._complete = self._complete, []
        waiting = f"{len(batch)} results wait"
        merged = self.patience.outlast(lambda: self._in_one_transaction(batch, complete), waiting)
        reached(Point.MERGE_AFTER_COMMIT)
        self.photos += len(batch)
        self.twins.committed(batch)
        lost = {lease.work_id for lease in complete} - merged.finished
        if lost:
            log.warning("lost the lease of shards %s; their results are stored all the same", sorted(lost))
        self.holdings.drop(complete)

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
