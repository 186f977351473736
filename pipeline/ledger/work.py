"""Leases: who works on which shard or key range, and for how long.

Theory of operation
    A *work item* is a row of `core.shard` or `core.list_range`. Both run the same machine:

        pending ──publish──▶ queued ──claim (epoch + 1)──▶ leased ──finish──▶ done
           ▲  ▲                 │                            │
           │  └──── stale ──────┘                            │
           └── released (stop, outage), or expired (death) ──┘──second death──▶ split (shards)

Laws
1. A claim commits before any work; there is one winner, whatever the number of messages.
2. Every later statement of the holder names its epoch, and does nothing when the epoch has moved on.
3. Only the database's clock is read.
4. A *death* is a lease that expired unreleased, begun (`lease_started`), of a worker that is on the list and has been
   silent for several beats of its heart. Nothing else brings a photo nearer to quarantine.
5. A lease is begun when the first of its photos is taken in hand: its bytes are here, and a decoder or the model gets
   them. Before that nothing of the photo could end a process, and waiting for a store must not look like it.
6. What has had a death, what came of a split, and what a device was lost over runs *alone*: it is claimed by its own
   message only, and its stream claims nothing else until it is finished. So its next death finds its cause. It is
   rung for before others, and streams end for it: who works on a long backlog would let it wait for minutes.
7. A *failure* is a shard handed back because of an error that no photo and no service explains. Such a shard waits
   longer each time, and is never taken ahead beside another one, so that each failure finds its cause.
8. What is urgent waits for no backlog: a stream takes it next, published or not, and hands its photos out before those
   of the shards that it holds and has not come to (`workers.engine.feeder`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from pipeline.errors import LeaseLost
from pipeline.ledger import limits
from pipeline.records import ItemState, JobState, Lease, PhotoTask, TakenFrom, Version, WorkState
from pipeline.store.revisions import touch_users

MOST_URGENT = 32_767  # no priority is higher
FAILURE_PAUSE_SECONDS = 5.0  # after the first failure of a shard; doubled by each further one in a row

OPEN = f"{WorkState.PENDING}, {WorkState.QUEUED}"

_CLAIM = """
UPDATE {table} w SET state = {leased}, lease_epoch = lease_epoch + 1, lease_owner = :owner,
       lease_until = clock_timestamp() + make_interval(secs => :seconds){reset}
WHERE w.{key} = :id AND w.state IN ({open}) AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= now())
  AND EXISTS (SELECT FROM core.job j WHERE j.job_id = w.job_id AND j.state IN ({created}, {running})){unless}
RETURNING w.{key}, w.job_id, w.lease_epoch, {alone}, {priority}"""
_NO_LIMITS = " AND NOT EXISTS (SELECT FROM core.queue_limit)"

# A message waits behind the streams that are under way: what is more urgent than something that this stream holds does
# not wait for its message. What is published and no more urgent than that is left to whoever is rung for it.
_CLAIM_NEXT = f"""
WITH urgent AS (
    SELECT s.shard_id, s.priority FROM core.shard s JOIN core.job j USING (job_id)
    WHERE s.state = {WorkState.QUEUED} AND s.model_id = :model AND s.failures = 0 AND NOT s.alone
      AND s.priority > :held AND j.state IN ({JobState.CREATED}, {JobState.RUNNING})
    ORDER BY s.priority DESC, s.shard_id LIMIT 1 FOR NO KEY UPDATE OF s SKIP LOCKED
), foremost AS (
    SELECT s.shard_id, s.priority FROM core.shard s JOIN core.job j USING (job_id)
    WHERE s.state = {WorkState.PENDING} AND s.model_id = :model AND s.failures = 0 AND NOT s.alone
      AND j.state IN ({JobState.CREATED}, {JobState.RUNNING})
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= now())
    ORDER BY s.priority DESC, s.alone DESC, s.shard_id LIMIT 1 FOR NO KEY UPDATE OF s SKIP LOCKED
)
SELECT shard_id FROM (SELECT *, 1 AS place FROM urgent UNION ALL SELECT *, 0 FROM foremost) either
ORDER BY priority DESC, place LIMIT 1"""

_RENEW = f"""
UPDATE {{table}} w SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS bigint[])) AS l(id, epoch)
WHERE w.{{key}} = l.id AND w.lease_epoch = l.epoch AND w.state = {WorkState.LEASED}
RETURNING w.{{key}}"""

_RELEASE = f"""
UPDATE {{table}} w SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL,
       next_attempt_at = CASE WHEN :delay > 0 THEN now() + make_interval(secs => :delay) END
FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS bigint[])) AS l(id, epoch)
WHERE w.{{key}} = l.id AND w.lease_epoch = l.epoch AND w.state = {WorkState.LEASED}"""

_FAILED = f"""
UPDATE core.shard s SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL, failures = failures + 1,
       error = :error, next_attempt_at = now() + make_interval(secs => :pause * 2 ^ least(failures, 10))
WHERE s.shard_id = :id AND s.lease_epoch = :epoch AND s.state = {WorkState.LEASED} RETURNING s.failures"""


@dataclass(frozen=True, kw_only=True)
class WorkTable:
    """One of the two kinds of work."""

    name: str
    table: str
    key: str
    reset: str  # what a claim clears beside the lease
    alone: str  # whether nothing else may be in hand beside it
    priority: str
    queue: str  # of one piece

    def claim(self, connection: Connection, work_id: int, owner: str, lease_seconds: float) -> Lease | None:
        """Take this piece of work if it is free; None: someone else has it, it is done, or its job does not run.

        Or there is no room for it (`pipeline.ledger.limits`): then it is pending again.
        """
        values = {"id": work_id, "owner": owner, "seconds": lease_seconds}
        lease = self._claim(connection, values, unless=_NO_LIMITS)
        if lease is not None or not limits.standing(connection):
            return lease
        queue: str | None = connection.execute(text(self.queue), values).scalar()
        if queue is None:  # there is no such piece
            return None
        if limits.allows(connection, queue):
            return self._claim(connection, values)
        unrung = f"""UPDATE {self.table} SET state = {WorkState.PENDING}
                     WHERE {self.key} = :id AND state = {WorkState.QUEUED}"""
        connection.execute(text(unrung), values)
        return None

    def _claim(self, connection: Connection, values: dict[str, Any], unless: str = "") -> Lease | None:
        statement = _CLAIM.format(
            table=self.table,
            key=self.key,
            reset=self.reset,
            alone=self.alone,
            priority=self.priority,
            unless=unless,
            open=OPEN,
            leased=int(WorkState.LEASED),
            created=int(JobState.CREATED),
            running=int(JobState.RUNNING),
        )
        row = connection.execute(text(statement), values).first()
        if row is None:
            return None
        work_id, job_id, epoch, alone, priority = row
        return Lease(work_id=work_id, job_id=job_id, epoch=epoch, alone=alone, priority=priority)

    def renew(self, connection: Connection, leases: Sequence[Lease], lease_seconds: float) -> frozenset[int]:
        """Prolong `leases`; return the ids of those still held."""
        statement = _RENEW.format(table=self.table, key=self.key)
        held = connection.execute(text(statement), {**_pairs(leases), "seconds": lease_seconds}).scalars()
        return frozenset(held)

    def confirm(self, connection: Connection, lease: Lease) -> None:
        """Make sure that `lease` is held until this transaction ends.

        Raises:
            LeaseLost: it is not; somebody else may have it.
        """
        query = f"""SELECT FROM {self.table} WHERE {self.key} = :id AND lease_epoch = :epoch
                    AND state = {WorkState.LEASED} FOR NO KEY UPDATE"""
        if connection.execute(text(query), {"id": lease.work_id, "epoch": lease.epoch}).first() is None:
            raise LeaseLost(f"{self.name} {lease.work_id} is held by another worker now.")

    def release(self, connection: Connection, leases: Sequence[Lease], delay_seconds: float = 0) -> None:
        """Hand `leases` back, unfinished; nobody is blamed. They may be claimed again after the delay."""
        statement = _RELEASE.format(table=self.table, key=self.key)
        connection.execute(text(statement), {**_pairs(leases), "delay": delay_seconds})


SHARDS = WorkTable(
    name="Shard",
    table="core.shard",
    key="shard_id",
    reset=", lease_started = false",
    alone="w.alone",
    priority="w.priority",
    queue="SELECT 'annotate.' || m.name FROM core.shard w JOIN core.model m USING (model_id) WHERE w.shard_id = :id",
)
RANGES = WorkTable(
    name="Range",
    table="core.list_range",
    key="range_id",
    reset="",
    alone="false",
    priority="(SELECT priority FROM core.job j WHERE j.job_id = w.job_id)",
    queue=f"SELECT '{limits.INGEST_QUEUE}'",
)


def claim_next_shard(
    connection: Connection, model_id: int, owner: str, lease_seconds: float, least_held: int | None = None
) -> Lease | None:
    """Take the foremost pending shard of the model, without waiting for its message.

    None that has failed before, nor one that must run alone. `least_held` is the lowest priority of what the stream
    holds: a shard that goes before that is taken even if somebody else has been rung for it, who then finds it taken.
    """
    held = MOST_URGENT if least_held is None else least_held
    shard_id = connection.execute(text(_CLAIM_NEXT), {"model": model_id, "held": held}).scalar()
    return None if shard_id is None else SHARDS.claim(connection, shard_id, owner, lease_seconds)


def suspects_wait(connection: Connection, model_id: int) -> bool:
    """Whether a message is on its way for a shard that nobody takes ahead.

    It needs a worker whose stream has ended, and a stream that goes on to claim what comes next does not end.
    """
    query = f"""SELECT EXISTS (SELECT FROM core.shard WHERE state = {WorkState.QUEUED} AND model_id = :model
                               AND (alone OR failures > 0))"""
    waits: bool = connection.execute(text(query), {"model": model_id}).scalar_one()
    return waits


def release_failed(connection: Connection, lease: Lease, error: str) -> int:
    """Hand a shard back after an error that no photo explains; it waits, longer each time.

    Returns how often it has failed in a row (a merge that closes a photo of it starts anew); 0 if it is not held.
    """
    values = {"id": lease.work_id, "epoch": lease.epoch, "error": error, "pause": FAILURE_PAUSE_SECONDS}
    return connection.execute(text(_FAILED), values).scalar() or 0


def mark_started(connection: Connection, lease: Lease) -> None:
    """Say that photos of this shard are in hand: from now on an expiry may count as a death."""
    connection.execute(
        text("UPDATE core.shard SET lease_started = true WHERE shard_id = :id AND lease_epoch = :epoch"),
        {"id": lease.work_id, "epoch": lease.epoch},
    )


def open_photos(connection: Connection, lease: Lease) -> list[PhotoTask]:
    """The photos of a shard that are still to be done, by key."""
    rows = connection.execute(
        text(f"""SELECT i.job_id, i.shard_id, p.photo_id, p.content_rev, b.uri AS bucket, p.key, p.etag, p.size,
                        p.version_id
                 FROM core.job_item i JOIN core.photo p USING (photo_id) JOIN core.bucket b USING (bucket_id)
                 WHERE i.shard_id = :shard AND i.state = {ItemState.PENDING} ORDER BY p.key"""),
        {"shard": lease.work_id},
    )
    return [PhotoTask(**row._mapping) for row in rows]


def cursor_of(connection: Connection, lease: Lease) -> str | None:
    """Where the listing of a range goes on."""
    query = text("SELECT cursor FROM core.list_range WHERE range_id = :id")
    cursor: str | None = connection.execute(query, {"id": lease.work_id}).scalar_one()
    return cursor


def note_changed(connection: Connection, task: PhotoTask, version: Version) -> None:
    """Write down that a photo's bytes are no longer those that were listed; does nothing if a lister knows already."""
    changed = connection.execute(
        text(f"""UPDATE core.photo SET etag = :etag, size = :size, content_rev = content_rev + 1,
                                      taken_from = {TakenFrom.OBJECT}
                WHERE photo_id = :photo AND content_rev = :rev AND (etag, size) <> (:etag, :size) RETURNING user_id"""),
        {"etag": version.etag, "size": version.size, "photo": task.photo_id, "rev": task.content_rev},
    )
    touch_users(connection, changed.scalars().all())


def _pairs(leases: Sequence[Lease]) -> dict[str, list[int]]:
    return {"ids": [lease.work_id for lease in leases], "epochs": [lease.epoch for lease in leases]}
