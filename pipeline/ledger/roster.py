"""The list of workers: who is there, what it waits for, whom nobody hears of any more, and who is alive but deaf.

Theory of operation
    Every process that works has a row in `core.worker` and writes it with each beat of its heart, the redrivers with
    each tick. A process that loads its model, or waits until it may, is on the list under `starting:` and its queue,
    where nobody rings for it. Who stops in good order takes his row off; who dies leaves it behind.

Laws
1. Only the database's clock is read.
2. Who has been silent for several beats is taken for dead. Should he beat again (he was stopped, or cut off), he was
   not: the deaths that were counted for him are taken back from the shards that are still open.
3. A worker is *stuck* only where everything else is well: messages lie at the broker, a redriver sends and has no
   trouble, no breaker of the worker's machine is open, and still nothing reaches him; or his heart has stopped although
   his process lives. A database that was away excuses everybody: time counts from when it answered again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.records import WorkState

BEATS_PER_LEASE = 4
SLOWEST_BEAT_SECONDS = 20.0
BEATS_MISSED = 3  # by who is taken for dead; fewer than a lease has, so that a lease that ends tells of a death
WORKER_SILENT_SECONDS = BEATS_MISSED * SLOWEST_BEAT_SECONDS  # nobody who lives is silent for so long
RESPAWN_SECONDS = 180.0  # a parent whose child has ended has another one on the list before this

REDRIVER = "redriver"  # the queue under which redrivers are listed
STARTING = "starting:"  # before the queue of a process that is not ready to be rung


def beat_seconds(lease_seconds: float) -> float:
    """How often a worker says that it lives: several times per lease."""
    return min(SLOWEST_BEAT_SECONDS, lease_seconds / BEATS_PER_LEASE)


def silence_seconds(lease_seconds: float) -> float:
    """How long a worker must not have been heard of to be taken for dead: several beats, but less than a lease."""
    return BEATS_MISSED * beat_seconds(lease_seconds)


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a process says of itself with each beat."""

    worker_id: str
    queue: str
    host: str = ""
    process_id: int = 0  # what a supervisor started: of a Celery child its parent
    progressed: bool = False  # whether it got anything done since it last said so
    rung_seconds: float | None = None  # since a message reached it, or it last held work; None: not since its start
    trouble: str | None = None  # what it waits for


# The old row tells whether this process was taken for dead meanwhile.
_NOTE = """
INSERT INTO core.worker AS w (worker_id, queue, host, process_id, last_progress, last_rung, trouble, trouble_since)
VALUES (:worker_id, :queue, :host, :process_id, now(), now() - make_interval(secs => :rung_seconds),
        CAST(:trouble AS text), CASE WHEN CAST(:trouble AS text) IS NOT NULL THEN now() END)
ON CONFLICT (worker_id) DO UPDATE SET last_seen = now(), queue = EXCLUDED.queue,
    last_progress = CASE WHEN :progressed THEN now() ELSE w.last_progress END,
    last_rung = greatest(w.last_rung, EXCLUDED.last_rung), trouble = EXCLUDED.trouble,
    trouble_since = CASE WHEN EXCLUDED.trouble IS NOT NULL THEN coalesce(w.trouble_since, now()) END
RETURNING extract(epoch FROM now() - old.last_seen)::float"""

_TAKE_BACK = f"""
UPDATE core.shard SET dead_workers = array_remove(dead_workers, :worker),
    deaths = greatest(0, deaths - cardinality(array_positions(dead_workers, :worker)))
WHERE shard_id IN (SELECT shard_id FROM core.shard WHERE :worker = ANY (dead_workers)
                   AND state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})
                   ORDER BY 1 FOR NO KEY UPDATE)"""


def note(connection: Connection, sign: Sign, lease_seconds: float) -> int:
    """Write down that a process lives; returns how many open shards its deaths were taken back from."""
    silent: float | None = connection.execute(text(_NOTE), vars(sign)).scalar_one()
    if silent is None or silent <= silence_seconds(lease_seconds):
        return 0
    return take_back_deaths(connection, sign.worker_id)


def take_back_deaths(connection: Connection, worker_id: str) -> int:
    """Unsay the deaths that were counted for a worker who turned out to live; returns of how many open shards."""
    return connection.execute(text(_TAKE_BACK), {"worker": worker_id}).rowcount


def note_worker(connection: Connection, worker_id: str, queue: str, *, progressed: bool) -> None:
    """Say that this worker is alive, and whether it got anything done since it last said so; nothing else of it."""
    note(connection, Sign(worker_id=worker_id, queue=queue, progressed=progressed), WORKER_SILENT_SECONDS)


def living(connection: Connection, queue: str) -> int:
    """How many workers that listen to `queue` are alive: those heard of within the last minute."""
    query = "SELECT count(*) FROM core.worker WHERE queue = :queue AND last_seen > now() - make_interval(secs => :s)"
    count: int = connection.execute(text(query), {"queue": queue, "s": WORKER_SILENT_SECONDS}).scalar_one()
    return count


def forget_worker(connection: Connection, worker_id: str) -> None:
    """Take a worker that stops in good order off the list."""
    connection.execute(text("DELETE FROM core.worker WHERE worker_id = :id"), {"id": worker_id})


def forget_dead_workers(connection: Connection) -> int:
    """Take workers off the list that nobody has heard of for a day; no lease lasts that long."""
    old = text("DELETE FROM core.worker WHERE last_seen < now() - interval '1 day'")
    return connection.execute(old).rowcount


def doorbell_is_silent(connection: Connection) -> bool:
    """Whether no redriver that lives can send: the broker is away, and work is found by looking for it only."""
    query = """SELECT count(*) > 0 AND count(*) = count(trouble) FROM core.worker
               WHERE queue = :queue AND last_seen > now() - make_interval(secs => :s)"""
    silent: bool = connection.execute(text(query), {"queue": REDRIVER, "s": WORKER_SILENT_SECONDS}).scalar_one()
    return silent


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A process as the ledger knows it. The seconds are the database's."""

    worker_id: str
    queue: str  # without "starting:"
    starting: bool
    process_id: int
    silent_seconds: float  # since its last beat, or since the database came back, which could not take any before
    rung_seconds: float  # since a message reached it, or since it came on the list
    leases: int
    waiting_seconds: float | None  # of the oldest message that was sent to its queue and not answered; None: none
    trouble: str | None
    breaker: str | None  # why its model is not to be used now; None: it may be
    redriver_well: bool  # somebody sends messages, and has no trouble

    @property
    def own_process_id(self) -> int:
        """The process that beats; of a Celery worker the child."""
        return int(self.worker_id.rsplit(":", 2)[-2])


_WAITING = f"""
CASE WHEN w.queue = 'ingest' THEN (SELECT min(published_at) FROM core.list_range WHERE state = {WorkState.QUEUED})
     ELSE (SELECT min(s.published_at) FROM core.shard s JOIN core.model m USING (model_id)
           WHERE s.state = {WorkState.QUEUED} AND 'annotate.' || m.name = w.queue) END"""

_LOOK = f"""
WITH mine AS (
    SELECT DISTINCT ON (process_id) worker_id, last_seen, started_at, last_rung, trouble, process_id, host,
           queue LIKE '{STARTING}%' AS starting, replace(queue, '{STARTING}', '') AS queue
    FROM core.worker WHERE host = :host AND process_id <> 0
    ORDER BY process_id, started_at DESC)
SELECT w.worker_id, w.queue, w.starting, w.process_id, w.trouble, b.reason AS breaker,
    extract(epoch FROM now() - greatest(w.last_seen, pg_postmaster_start_time()))::float AS silent_seconds,
    extract(epoch FROM now() - coalesce(w.last_rung, w.started_at))::float AS rung_seconds,
    (SELECT count(*) FROM core.shard s WHERE s.state = {WorkState.LEASED} AND s.lease_owner = w.worker_id)
    + (SELECT count(*) FROM core.list_range r WHERE r.state = {WorkState.LEASED} AND r.lease_owner = w.worker_id)
        AS leases,
    extract(epoch FROM now() - ({_WAITING}))::float AS waiting_seconds,
    EXISTS (SELECT FROM core.worker r WHERE r.queue = '{REDRIVER}' AND r.trouble IS NULL
            AND r.last_seen > now() - make_interval(secs => :silence)) AS redriver_well
FROM mine w LEFT JOIN core.breaker b ON b.queue = w.queue AND b.host = w.host"""


def look(connection: Connection, host: str) -> Sequence[Seen]:
    """The newest process of each one that a supervisor started on this machine."""
    rows = connection.execute(text(_LOOK), {"host": host, "silence": WORKER_SILENT_SECONDS})
    return [Seen(**row._mapping) for row in rows]


def stuck(seen: Seen, *, lives: bool, waited_seconds: float, bound_seconds: float) -> str | None:
    """Why this process must be ended and started anew; None: nothing can be said against it.

    Args:
        seen: what the ledger says.
        lives: whether the process that beats exists.
        waited_seconds: how long messages for it have been seen to lie at the broker while it took none.
        bound_seconds: how long anything may take; the database must have answered for as long.
    """
    if seen.silent_seconds > bound_seconds + (0 if lives else RESPAWN_SECONDS):
        what = "it has not ticked" if seen.queue == REDRIVER else "its heart has not beaten"
        return f"{what} for {seen.silent_seconds:.0f} s"
    deaf = min(waited_seconds, seen.rung_seconds)
    if lives and not seen.starting and may_be_deaf(seen) and deaf > bound_seconds:
        return f"messages for {seen.queue} have waited for {deaf:.0f} s, and it takes none"
    return None


def may_be_deaf(seen: Seen) -> bool:
    """Whether a message that waits now is one that this process should have taken."""
    idle = seen.leases == 0 and seen.queue != REDRIVER
    return idle and seen.waiting_seconds is not None and seen.redriver_well and seen.breaker is None
