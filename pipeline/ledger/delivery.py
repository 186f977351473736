"""Deliveries: what is to be brought somewhere once a job has ended. `core.delivery` is the outbox.

Theory of operation
    A delivery is a piece of work like a key range: published by a redriver, leased, finished at its epoch
    (`pipeline.ledger.work`). It is written with its job, in one transaction, and may be claimed when the job has ended:
    nothing has to happen at that moment, and so nothing can be forgotten.

Laws
1. A delivery keeps its `event_id` from the job's submission on, so whoever gets it twice can tell.
2. It is tried up to `MOST_ATTEMPTS` times, with pauses that double up to an hour: for about a day. A try that ended
   with its process counts. Then it is given up, and `error` says why.
3. Notices wait for the job's results, unless those have failed `TRIES_WAITED_FOR` times: who is told finds them there.
4. The results of a job are written in one snapshot; a second try writes the same again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from pipeline.ledger import roster
from pipeline.ledger.publish import INGEST_QUEUE, WINDOW_PER_WORKER, Doorbell
from pipeline.ledger.targets import target_of
from pipeline.ledger.work import OPEN, WorkTable
from pipeline.records import JobState, Lease, WorkState

MOST_ATTEMPTS = 30
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 3_600.0
TRIES_WAITED_FOR = 3
DELIVER = "deliver"  # the kind of its messages
MOST_ERROR_CHARACTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A delivery as it stands."""

    delivery_id: int
    event_id: str
    job_id: int
    kind: str  # "results" or "webhook"
    target: str
    format: str | None
    state: WorkState
    attempts: int
    next_attempt_at: datetime | None
    delivered_at: datetime | None
    error: str | None  # of the last try; why it was given up
    facts: dict[str, Any] | None

    @property
    def named(self) -> str:
        """What it is, and where it goes."""
        if self.kind == "webhook":
            return f"notice to {self.target}"
        return f"results to {target_of(self.target, self.format or 'jsonl', self.job_id).results_uri}"

    @property
    def condition(self) -> str:
        """The state as people read it."""
        if self.state is WorkState.CANCELLED:
            return "given up"
        if self.state is WorkState.DONE:
            return "delivered"
        return "waiting to be tried again" if self.error else "waiting"


_CLAIM = f"""
UPDATE core.delivery w SET state = {WorkState.LEASED}, lease_epoch = lease_epoch + 1, lease_owner = :owner,
       lease_until = clock_timestamp() + make_interval(secs => :seconds), attempts = attempts + 1
WHERE w.delivery_id = :id AND w.state IN ({OPEN}) AND (w.next_attempt_at IS NULL OR w.next_attempt_at <= now())
  AND EXISTS (SELECT FROM core.job j WHERE j.job_id = w.job_id AND j.state >= {JobState.SUCCEEDED})
RETURNING w.delivery_id, w.job_id, w.lease_epoch"""


class DeliveryTable(WorkTable):
    """Work that begins when its job has ended."""

    def claim(self, connection: Connection, work_id: int, owner: str, lease_seconds: float) -> Lease | None:
        """Take this delivery if it is free and its job has ended. A claim is a try."""
        row = connection.execute(text(_CLAIM), {"id": work_id, "owner": owner, "seconds": lease_seconds}).first()
        return None if row is None else Lease(work_id=row[0], job_id=row[1], epoch=row[2])


DELIVERIES = DeliveryTable(
    name="Delivery",
    table="core.delivery",
    key="delivery_id",
    reset="",
    alone="false",
    priority="0",
    queue=f"SELECT '{INGEST_QUEUE}'",
)

_COLUMNS = """delivery_id, event_id::text AS event_id, job_id, kind, target, format, state, attempts, next_attempt_at,
              delivered_at, error, facts"""


def find(connection: Connection, delivery_id: int) -> Delivery:
    """The delivery of that number, which is there."""
    query = text(f"SELECT {_COLUMNS} FROM core.delivery WHERE delivery_id = :id")
    return _delivery(dict(connection.execute(query, {"id": delivery_id}).mappings().one()))


def of_job(connection: Connection, job_id: int) -> list[Delivery]:
    """The deliveries of a job, in the order in which they were asked for."""
    query = text(f"SELECT {_COLUMNS} FROM core.delivery WHERE job_id = :job ORDER BY delivery_id")
    return [_delivery(dict(row)) for row in connection.execute(query, {"job": job_id}).mappings()]


def _delivery(row: dict[str, Any]) -> Delivery:
    return Delivery(**{**row, "state": WorkState(row["state"])})


def pause_seconds(attempts: int) -> float:
    """How long to wait after so many tries."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempts - 1, 20))


# ---- the holder's


def finish(connection: Connection, lease: Lease, facts: dict[str, object]) -> None:
    """It was brought; LeaseLost if somebody else has it now."""
    DELIVERIES.confirm(connection, lease)
    connection.execute(
        text(f"""UPDATE core.delivery SET state = {WorkState.DONE}, lease_owner = NULL, lease_until = NULL,
                     delivered_at = now(), error = NULL, facts = CAST(:facts AS jsonb) WHERE delivery_id = :id"""),
        {"id": lease.work_id, "facts": json.dumps(facts)},
    )


def postpone(connection: Connection, lease: Lease, error: str) -> bool:
    """A try failed: another one later, or none if it was the last. Whether it was given up; LeaseLost as above."""
    DELIVERIES.confirm(connection, lease)
    attempts: int = connection.execute(
        text("SELECT attempts FROM core.delivery WHERE delivery_id = :id"), {"id": lease.work_id}
    ).scalar_one()
    over = attempts >= MOST_ATTEMPTS
    said = f"Given up after {attempts} tries: {error}" if over else error
    _put_off(connection, lease.work_id, said[:MOST_ERROR_CHARACTERS], attempts, over=over)
    return over


def give_back(connection: Connection, lease: Lease) -> None:
    """The holder was told to stop: this was no try."""
    connection.execute(
        text(f"""UPDATE core.delivery SET state = {WorkState.PENDING}, lease_owner = NULL, lease_until = NULL,
                     attempts = attempts - 1
                 WHERE delivery_id = :id AND lease_epoch = :epoch AND state = {WorkState.LEASED}"""),
        {"id": lease.work_id, "epoch": lease.epoch},
    )


def _put_off(connection: Connection, delivery_id: int, error: str, attempts: int, *, over: bool) -> None:
    connection.execute(
        text("""UPDATE core.delivery SET state = :state, lease_owner = NULL, lease_until = NULL, error = :error,
                    next_attempt_at = clock_timestamp() + make_interval(secs => :pause) WHERE delivery_id = :id"""),
        {
            "id": delivery_id,
            "state": int(WorkState.CANCELLED if over else WorkState.PENDING),
            "error": error.replace("\0", "").encode(errors="backslashreplace").decode(),
            "pause": pause_seconds(attempts),
        },
    )


# ---- the eraser's

_WRITE_AGAIN = f"""
UPDATE core.delivery d SET state = {WorkState.PENDING}, lease_epoch = d.lease_epoch + 1, lease_owner = NULL,
       next_attempt_at = d.lease_until, lease_until = NULL, attempts = 0, delivered_at = NULL
FROM (SELECT delivery_id FROM core.delivery WHERE kind = 'results' AND job_id = ANY (CAST(:jobs AS bigint[]))
      AND state IN ({WorkState.DONE}, {WorkState.LEASED})
      AND job_id NOT IN (SELECT job_id FROM core.job WHERE tidying_at IS NOT NULL)
      ORDER BY 1 FOR NO KEY UPDATE) stale
WHERE d.delivery_id = stale.delivery_id"""


def write_again(connection: Connection, job_ids: Sequence[int]) -> int:
    """Have the results of these jobs written anew, since their lines have changed; how many deliveries that are.

    Of a job that was tidied nothing can be written any more: those files are the receiver's to mend. Who is at it loses
    the lease, and the next try waits until that lease would have ended.
    """
    return connection.execute(text(_WRITE_AGAIN), {"jobs": list(job_ids)}).rowcount


# ---- the redriver's

_EXPIRED = f"""
SELECT delivery_id, attempts FROM core.delivery WHERE state = {WorkState.LEASED} AND lease_until < clock_timestamp()
ORDER BY 1 LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED"""
_SILENT = "The ingest worker that had it fell silent; its log may say why."


def expire(connection: Connection) -> int:
    """Hand on what its holder did not renew. Returns how many."""
    rows = connection.execute(text(_EXPIRED)).all()
    for delivery_id, attempts in rows:
        over = attempts >= MOST_ATTEMPTS
        said = f"Given up after {attempts} tries: {_SILENT}" if over else _SILENT
        _put_off(connection, delivery_id, said, attempts, over=over)
    return len(rows)


_PUBLISH = f"""
WITH chosen AS MATERIALIZED (
    SELECT delivery_id FROM core.delivery o JOIN core.job j USING (job_id)
    WHERE o.state = {WorkState.PENDING} AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= now())
      AND j.state >= {JobState.SUCCEEDED}
      AND (o.kind <> 'webhook' OR NOT EXISTS (
          SELECT FROM core.delivery r WHERE r.job_id = o.job_id AND r.kind = 'results'
          AND r.state IN ({OPEN}, {WorkState.LEASED}) AND r.attempts < {TRIES_WAITED_FOR}))
    ORDER BY delivery_id LIMIT :room FOR NO KEY UPDATE OF o SKIP LOCKED
)
UPDATE core.delivery d SET state = {WorkState.QUEUED}, published_at = clock_timestamp()
FROM chosen WHERE d.delivery_id = chosen.delivery_id RETURNING d.delivery_id"""


def publishable(connection: Connection) -> list[Doorbell]:
    """Mark as queued what there is room for, oldest first; the messages are to be sent after the commit."""
    query = f"SELECT count(*) FROM core.delivery WHERE state = {WorkState.QUEUED}"
    queued: int = connection.execute(text(query)).scalar_one()
    room = max(0, WINDOW_PER_WORKER * roster.living(connection, INGEST_QUEUE) - queued)
    ids = connection.execute(text(_PUBLISH), {"room": room}).scalars()
    return [Doorbell(kind=DELIVER, queue=INGEST_QUEUE, work_id=work_id) for work_id in sorted(ids)]


def take_back(connection: Connection, bells: Sequence[Doorbell]) -> None:
    """These messages could not be sent."""
    ids = [bell.work_id for bell in bells if bell.kind == DELIVER]
    connection.execute(
        text(f"""UPDATE core.delivery SET state = {WorkState.PENDING}
                 WHERE delivery_id = ANY (CAST(:ids AS bigint[])) AND state = {WorkState.QUEUED}"""),
        {"ids": ids},
    )


def unqueue(connection: Connection, older_than_seconds: float) -> int:
    """Take back messages that nobody answered; 0 s: all of them. Returns how many."""
    result = connection.execute(
        text(f"""UPDATE core.delivery SET state = {WorkState.PENDING} WHERE state = {WorkState.QUEUED}
                 AND published_at <= clock_timestamp() - make_interval(secs => :age)"""),
        {"age": older_than_seconds},
    )
    return result.rowcount
