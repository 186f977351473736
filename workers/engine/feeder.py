"""The first step of the stream: shards claimed and their photos handed out, in a thread of its own."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from pipeline.crashpoints import Point, reached
from pipeline.ledger import jobs, roster, work
from pipeline.ledger.due import drop_done
from pipeline.records import Lease, PhotoTask
from pipeline.store.session import Database
from workers.engine.flow import Ranked
from workers.engine.outages import Patience
from workers.holdings import Holdings

T = TypeVar("T")

DRY_SECONDS = 0.25  # how often a ledger that has nothing for us is asked again


@dataclass(frozen=True, kw_only=True)
class Feeder:
    """Claims the next shard whenever few are held, while there is one and time."""

    database: Database
    patience: Patience
    holdings: Holdings
    tasks: Ranked[PhotoTask]
    model_id: int
    owner: str  # of the leases
    lease_seconds: float
    shards_ahead: int  # claimed beside the one in work
    stream_seconds: float  # after which no more are claimed, unless nobody could ring for them
    finish: Callable[[Lease], None]  # a shard in which nothing is open
    stopping: Callable[[], bool]

    def claim(self, shard_id: int) -> Lease | None:
        """The shard that the stream was rung for; None: there is nothing to do. ServiceDown at once."""
        return self.database.run(
            lambda connection: work.SHARDS.claim(connection, shard_id, self.owner, self.lease_seconds)
        )

    def feed(self, first: Lease) -> None:
        """The thread's life: hand out this shard and what is pending after it, until nothing is held any more."""
        self._hand_out(first)
        until = time.monotonic() + self.stream_seconds
        while not self.stopping():
            room = len(self.holdings) <= self.shards_ahead and not self.holdings.alone()
            lease = self._ask(lambda connection: self._claim_next(connection, until)) if room else None
            if lease is not None:
                self._hand_out(lease)
            elif len(self.holdings) == 0:
                return
            else:
                self.holdings.wait(DRY_SECONDS)

    def _hand_out(self, lease: Lease) -> None:
        reached(Point.CLAIM_AFTER_COMMIT)
        self.holdings.add(lease)  # so that it is handed back, should the next step fail
        photos = self._ask(lambda connection: _open(connection, lease, self.model_id))
        self.holdings.add(lease, (task.photo_id for task in photos))
        if not photos:
            self.finish(lease)
        for task in spread(photos):
            self.tasks.put(task, rank=lease.priority)  # before what is held, less urgent, and not begun

    def _claim_next(self, connection: Connection, until: float) -> Lease | None:
        """A stream ends in time, and for those who wait for its message; not while nobody could ring again.

        So work goes on without a broker for as long as streams may run (`workers.engine.stream.LONGEST_SECONDS`) and
        something is pending; who is idle when the broker goes stays idle until it is back.
        """
        over = time.monotonic() >= until or work.suspects_wait(connection, self.model_id)
        if over and not roster.doorbell_is_silent(connection):
            return None
        least = self.holdings.least_priority()
        return work.claim_next_shard(connection, self.model_id, self.owner, self.lease_seconds, least)

    def _ask(self, question: Callable[[Connection], T]) -> T:
        return self.patience.outlast(lambda: self.database.run(question), "the next shard waits")


def _open(connection: Connection, lease: Lease, model_id: int) -> list[PhotoTask]:
    drop_done(connection, lease, model_id)
    jobs.start(connection, lease.job_id)
    return work.open_photos(connection, lease)


def spread(tasks: Sequence[PhotoTask]) -> list[PhotoTask]:
    """The same tasks, each folder's evenly over the whole: a store limits the requests per second of each prefix."""
    folders: dict[tuple[str, str], list[PhotoTask]] = defaultdict(list)
    for task in tasks:
        folders[task.bucket, task.key.rpartition("/")[0]].append(task)
    placed = [((n + 0.5) / len(folder), task) for folder in folders.values() for n, task in enumerate(folder)]
    return [task for _, task in sorted(placed, key=lambda pair: pair[0])]
