"""Everything that may keep a job from moving, read in one go; `pipeline.ledger.why` judges it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from pipeline.ledger import delivery, jobs, limits
from pipeline.ledger.delivery import Delivery
from pipeline.ledger.jobs import Job
from pipeline.ledger.limits import INGEST_QUEUE, Use, annotate_queue
from pipeline.ledger.roster import REDRIVER, STARTING, WORKER_SILENT_SECONDS
from pipeline.records import ItemState, JobState, WorkState

LOCK_SECONDS = 1.0  # merges wait for each other for milliseconds: less than this is no reason for anything


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A living process that waits for something."""

    host: str
    trouble: str  # a sentence
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The living processes of one queue."""

    queue: str
    alive: int  # and ready for work
    starting: int = 0  # loading a model, or waiting until they may
    troubles: tuple[Trouble, ...] = ()  # who of all these waits for something; longest first


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """A machine on which the job's model does not work."""

    host: str
    reason: str
    opened_at: datetime
    next_attempt_at: datetime


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One of our processes waits for a lock in the database that somebody else holds."""

    waiter: str  # application name
    waiter_pid: int
    since: datetime
    holder: str  # application name; "" if it says none
    holder_pid: int
    holder_since: datetime | None  # when its transaction began; None: we may not know


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A listing that has not ended."""

    state: WorkState
    listed: int
    next_attempt_at: datetime | None
    lease_until: datetime | None
    holder_lives: bool


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The open shards of a job, and who stands before them."""

    ready: int = 0  # pending, and nothing keeps them from being claimed
    queued: int = 0
    backing_off: int = 0
    next_attempt_at: datetime | None = None  # of the earliest of those
    failures: int = 0  # in a row, of the worst of those
    error: str | None = None
    leased: int = 0  # by workers that live
    workers: int = 0  # how many those are
    troubled: int = 0  # how many of those wait for something
    abandoned: int = 0  # leased by workers that fell silent
    abandoned_until: datetime | None = None
    ahead: int = 0  # shards of other jobs with the same model that are claimed before ours


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Photos that wait for another try because of the infrastructure."""

    photos: int = 0
    next_attempt_at: datetime | None = None
    message: str | None = None  # the commonest


@dataclass(frozen=True, kw_only=True)
class Full:
    """A limit that leaves no room for anything more of its queue."""

    queue: str  # or `limits.ALL`
    most: int
    set_by: str
    set_at: datetime


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that may keep a job from moving, as of one moment."""

    now: datetime  # by the database's clock
    job: Job
    ingest: Crew
    annotate: Crew
    redriver: Crew
    breakers: tuple[Breaker, ...] = ()
    lock: Lock | None = None
    listing: Listing | None = None
    shards: Shards = Shards()
    retries: Retries = Retries()
    full: tuple[Full, ...] = ()  # of the limits that concern the job
    undelivered: tuple[Delivery, ...] = ()  # of a job that has ended: what has not arrived


def gather(connection: Connection, job_id: int) -> Situation:
    """The facts about one job. The connection's transaction must be REPEATABLE READ, for them to be of one moment.

    Raises:
        ConfigurationError: there is no such job.
    """
    job = jobs.find(connection, job_id)
    now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return Situation(
        now=now,
        job=job,
        ingest=_crew(connection, INGEST_QUEUE),
        annotate=_crew(connection, annotate_queue(job.model)),
        redriver=_crew(connection, REDRIVER),
        breakers=_breakers(connection, annotate_queue(job.model)),
        lock=_lock(connection),
        listing=_listing(connection, job_id),
        shards=_shards(connection, job),
        retries=_retries(connection, job_id),
        full=_full(connection, job),
        undelivered=_undelivered(connection, job),
    )


_LIVES = f"last_seen > now() - make_interval(secs => {WORKER_SILENT_SECONDS})"


def _crew(connection: Connection, queue: str) -> Crew:
    rows = connection.execute(
        text(f"""SELECT queue <> :queue AS starts, host, trouble, coalesce(trouble_since, last_seen) AS since
                 FROM core.worker WHERE queue IN (:queue, :starting) AND {_LIVES} ORDER BY since"""),
        {"queue": queue, "starting": STARTING + queue},
    ).all()
    troubles = tuple(Trouble(host=row.host, trouble=row.trouble, since=row.since) for row in rows if row.trouble)
    starting = sum(row.starts for row in rows)
    return Crew(queue=queue, alive=len(rows) - starting, starting=starting, troubles=troubles)


def _breakers(connection: Connection, queue: str) -> tuple[Breaker, ...]:
    rows = connection.execute(
        text("""SELECT host, reason, opened_at, next_attempt_at FROM core.breaker WHERE queue = :queue
                ORDER BY next_attempt_at"""),
        {"queue": queue},
    )
    return tuple(Breaker(**row._mapping) for row in rows)


# Locks can be seen by everybody; what others do, by themselves and by members of pg_read_all_stats. For all others
# `holder_since` is unknown.
_LOCK = text(f"""
SELECT waiting.application_name AS waiter, waiting.pid AS waiter_pid, lock.waitstart AS since,
       coalesce(holding.application_name, '') AS holder, holder.pid AS holder_pid, holding.xact_start AS holder_since
FROM pg_locks lock JOIN pg_stat_activity waiting USING (pid)
CROSS JOIN LATERAL unnest(pg_blocking_pids(lock.pid)) AS holder (pid)
LEFT JOIN pg_stat_activity holding ON holding.pid = holder.pid
WHERE NOT lock.granted AND lock.waitstart < clock_timestamp() - make_interval(secs => {LOCK_SECONDS})
  AND waiting.datname = current_database()
  AND waiting.application_name IN ('pictograph annotate', 'pictograph ingest', 'pictograph redriver')
ORDER BY cardinality(pg_blocking_pids(holder.pid)), lock.waitstart LIMIT 1""")


def _lock(connection: Connection) -> Lock | None:
    row = connection.execute(_LOCK).first()
    return None if row is None else Lock(**row._mapping)


def _listing(connection: Connection, job_id: int) -> Listing | None:
    row = connection.execute(
        text(f"""SELECT r.state, r.listed, r.next_attempt_at, r.lease_until,
                        EXISTS (SELECT FROM core.worker WHERE worker_id = r.lease_owner AND {_LIVES}) AS holder_lives
                 FROM core.list_range r
                 WHERE r.job_id = :job AND r.state NOT IN ({WorkState.DONE}, {WorkState.CANCELLED})
                 ORDER BY range_id LIMIT 1"""),
        {"job": job_id},
    ).first()
    return None if row is None else Listing(**{**row._mapping, "state": WorkState(row.state)})


_WAITS = f"s.state = {WorkState.PENDING} AND s.next_attempt_at > now()"
_HELD = f"s.state = {WorkState.LEASED} AND w.worker_id IS NOT NULL"
_ABANDONED = f"s.state = {WorkState.LEASED} AND w.worker_id IS NULL"
_SHARDS = text(f"""
SELECT count(*) FILTER (WHERE s.state = {WorkState.PENDING} AND NOT coalesce(s.next_attempt_at > now(), false))
           AS ready,
       count(*) FILTER (WHERE s.state = {WorkState.QUEUED}) AS queued,
       count(*) FILTER (WHERE {_WAITS}) AS backing_off, min(s.next_attempt_at) FILTER (WHERE {_WAITS})
           AS next_attempt_at,
       coalesce(max(s.failures) FILTER (WHERE {_WAITS}), 0) AS failures,
       (array_agg(s.error ORDER BY s.failures DESC) FILTER (WHERE {_WAITS} AND s.error IS NOT NULL))[1] AS error,
       count(*) FILTER (WHERE {_HELD}) AS leased, count(DISTINCT s.lease_owner) FILTER (WHERE {_HELD}) AS workers,
       count(DISTINCT s.lease_owner) FILTER (WHERE {_HELD} AND w.trouble IS NOT NULL) AS troubled,
       count(*) FILTER (WHERE {_ABANDONED}) AS abandoned,
       max(s.lease_until) FILTER (WHERE {_ABANDONED}) AS abandoned_until
FROM core.shard s LEFT JOIN core.worker w ON w.worker_id = s.lease_owner AND w.{_LIVES}
WHERE s.job_id = :job AND s.state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})""")

# Of equal priority, the older shard goes first; ours is as old as its oldest that waits.
_AHEAD = text(f"""
SELECT count(*) FROM core.shard s JOIN core.job j USING (job_id)
WHERE s.model_id = :model AND s.job_id <> :job AND j.state IN ({JobState.CREATED}, {JobState.RUNNING})
  AND (s.state IN ({WorkState.QUEUED}, {WorkState.LEASED})
       OR s.state = {WorkState.PENDING} AND NOT coalesce(s.next_attempt_at > now(), false))
  AND (s.priority, -s.shard_id) > (:priority, -(SELECT min(shard_id) FROM core.shard
                                                WHERE job_id = :job AND state = {WorkState.PENDING}))""")


def _shards(connection: Connection, job: Job) -> Shards:
    found = connection.execute(_SHARDS, {"job": job.job_id}).one()._mapping
    values = {"job": job.job_id, "model": job.model_id, "priority": job.priority}
    return Shards(**found, ahead=connection.execute(_AHEAD, values).scalar_one())


def _full(connection: Connection, job: Job) -> tuple[Full, ...]:
    leased = {queue: Use(leased=use.leased) for queue, use in limits.in_use(connection).items()}
    rows = connection.execute(
        text("SELECT queue, most, set_by, set_at FROM core.queue_limit WHERE queue IN (:mine, :all) ORDER BY most"),
        {"mine": INGEST_QUEUE if job.listing and not job.waiting else annotate_queue(job.model), "all": limits.ALL},
    )
    return tuple(Full(**r._mapping) for r in rows if limits.room({r.queue: r.most}, leased, r.queue) <= 0)


def _undelivered(connection: Connection, job: Job) -> tuple[Delivery, ...]:
    if not job.state.ended:
        return ()
    return tuple(each for each in delivery.of_job(connection, job.job_id) if each.state is not WorkState.DONE)


_RETRIES = text(f"""
SELECT count(*) AS photos, min(next_attempt_at) AS next_attempt_at, mode() WITHIN GROUP (ORDER BY message) AS message
FROM core.job_item WHERE job_id = :job AND state = {ItemState.RETRY}""")


def _retries(connection: Connection, job_id: int) -> Retries:
    return Retries(**connection.execute(_RETRIES, {"job": job_id}).one()._mapping)
