"""How much may be in hand at once: of one queue, and of all together; set, lifted and changed while work goes on.

Laws
1. The row of `core.queue_limit` is the limit. Lowering it takes nothing from anybody: what is held goes on to its end,
   and nothing more is claimed until there is room.
2. Where any limit stands, claims take turns (an advisory lock, until the claim commits), so that two of them never fill
   the same place. Where none stands, a claim is the one statement it always was, and waits for nobody.
3. The redriver rings for what there is room for, counting what it has rung for already. Who is rung and finds no room
   after all, because a stream took it, puts the work back to the pending.
4. Where all queues together are limited, places are kept for the listings that are rung for: streams would take every
   place as soon as it is free, and nothing new, however urgent, would be listed before the backlog is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError
from pipeline.ledger.roster import WORKER_SILENT_SECONDS
from pipeline.records import WorkState

ALL = "*"  # the queue that stands for all of them
INGEST_QUEUE = "ingest"
NO_BOUND = 1_000_000  # messages or leases: nobody has so many
TURN = 0x70696374  # of the advisory lock under which claims take turns


def annotate_queue(model: str) -> str:
    """The queue that workers serving `model` listen to."""
    return f"annotate.{model}"


@dataclass(frozen=True, kw_only=True)
class Use:
    """What of one queue is under way."""

    queued: int = 0
    leased: int = 0


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue as people are told of it; the last of them is all together."""

    queue: str
    workers: int  # alive
    pending: int
    queued: int
    leased: int
    most: int | None  # None: no limit
    set_by: str | None
    set_at: datetime | None
    breakers: int  # machines on which its model does not work


def standing(connection: Connection) -> dict[str, int]:
    """The limits, by queue."""
    rows = connection.execute(text("SELECT queue, most FROM core.queue_limit"))
    return {row.queue: row.most for row in rows}


_IN_USE = f"""
SELECT 'annotate.' || m.name AS queue, count(*) FILTER (WHERE s.state = {WorkState.QUEUED}) AS queued,
       count(*) FILTER (WHERE s.state = {WorkState.LEASED}) AS leased
FROM core.shard s JOIN core.model m USING (model_id)
WHERE s.state IN ({WorkState.QUEUED}, {WorkState.LEASED}) GROUP BY 1
UNION ALL
SELECT '{INGEST_QUEUE}', count(*) FILTER (WHERE state = {WorkState.QUEUED}),
       count(*) FILTER (WHERE state = {WorkState.LEASED})
FROM core.list_range WHERE state IN ({WorkState.QUEUED}, {WorkState.LEASED})"""


def in_use(connection: Connection) -> dict[str, Use]:
    """What is published and what is leased, by queue; a queue of which nothing is may be left out."""
    rows = connection.execute(text(_IN_USE))
    return {row.queue: Use(queued=row.queued, leased=row.leased) for row in rows}


def room(most: dict[str, int], use: dict[str, Use], queue: str, *, ahead: int = 0) -> int:
    """How many more pieces of this queue the limits leave room for, were all that is published also claimed.

    Args:
        most: the limits, by queue.
        use: what is under way, by queue.
        queue: of the work.
        ahead: pieces of other queues that have been given room since `use` was counted.
    """
    left = NO_BOUND
    if queue in most:
        mine = use.get(queue, Use())
        left = most[queue] - mine.queued - mine.leased
    if ALL in most:
        left = min(left, most[ALL] - sum(each.queued + each.leased for each in use.values()) - ahead)
    return left


def allows(connection: Connection, queue: str) -> bool:
    """Whether one more piece of this queue may be claimed by this transaction; nobody else claims until it ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": TURN})
    most = standing(connection)
    use = in_use(connection)
    kept = use.get(INGEST_QUEUE, Use()).queued if queue != INGEST_QUEUE else 0
    leased = {name: Use(leased=each.leased) for name, each in use.items()}
    return room(most, leased, queue, ahead=kept) > 0


def put(connection: Connection, queue: str, most: int, by: str) -> None:
    """Let no more than `most` pieces of the queue be in hand at once.

    Raises:
        ConfigurationError: there is no such queue.
    """
    _check(connection, queue)
    connection.execute(
        text("""INSERT INTO core.queue_limit (queue, most, set_by) VALUES (:queue, :most, :by)
                ON CONFLICT (queue) DO UPDATE SET most = EXCLUDED.most, set_by = EXCLUDED.set_by, set_at = now()"""),
        {"queue": queue, "most": most, "by": by},
    )


def lift(connection: Connection, queue: str) -> bool:
    """Let as much of the queue be in hand as there are workers for. False: there was no limit."""
    lifted = connection.execute(text("DELETE FROM core.queue_limit WHERE queue = :queue"), {"queue": queue})
    if not lifted.rowcount:
        _check(connection, queue)
    return bool(lifted.rowcount)


def _check(connection: Connection, queue: str) -> None:
    names = connection.execute(text("SELECT name FROM core.model ORDER BY model_id")).scalars()
    known = [INGEST_QUEUE, *map(annotate_queue, names)]
    if queue not in (ALL, *known):
        raise ConfigurationError(f"There is no queue {queue!r}; take one of {', '.join(known)}, or all.")


_QUEUES = f"""
WITH held AS (
    SELECT 'annotate.' || m.name AS queue, m.model_id, s.state FROM core.model m LEFT JOIN core.shard s
        ON s.model_id = m.model_id AND s.state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})
    WHERE m.dropped_at IS NULL OR s.state IS NOT NULL
    UNION ALL
    SELECT '{INGEST_QUEUE}', 0, r.state FROM (VALUES (0)) one LEFT JOIN core.list_range r
        ON r.state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})
), counted AS (
    SELECT queue, min(model_id) AS place, count(*) FILTER (WHERE state = {WorkState.PENDING}) AS pending,
           count(*) FILTER (WHERE state = {WorkState.QUEUED}) AS queued,
           count(*) FILTER (WHERE state = {WorkState.LEASED}) AS leased,
           (SELECT count(*) FROM core.worker w WHERE w.queue = held.queue
            AND w.last_seen > now() - make_interval(secs => {WORKER_SILENT_SECONDS})) AS workers,
           (SELECT count(*) FROM core.breaker b WHERE b.queue = held.queue) AS breakers
    FROM held GROUP BY queue
), everything AS (
    SELECT * FROM counted UNION ALL
    SELECT '{ALL}', 100000, sum(pending)::bigint, sum(queued)::bigint, sum(leased)::bigint, sum(workers)::bigint,
           sum(breakers)::bigint FROM counted)
SELECT e.queue, e.workers, e.pending, e.queued, e.leased, l.most, l.set_by, l.set_at, e.breakers
FROM everything e LEFT JOIN core.queue_limit l USING (queue) ORDER BY e.place"""


def queues(connection: Connection) -> Sequence[Queue]:
    """Every queue as it stands, listing first, and last all together."""
    return [Queue(**row._mapping) for row in connection.execute(text(_QUEUES))]
