"""What an operator does to a job that goes on: lets it rest and go on, within its hours, and sooner than others.

A paused job gives out no work: nobody claims, publishes or gathers for it, nor ends it. What is leased when it is
paused goes on to its end; until then the job is *pausing*. How a job is stopped for good is `pipeline.ledger.ending`.

Laws
1. Who pauses a job owns the pause, with a reason and an end if they like. At its end, by the database's clock, any
   redriver lifts it.
2. A job with a *window* is paused by the redrivers outside of its hours, until the window opens. Their pause is a
   window's, and known by its owner; an operator's own is never lifted by a window, and takes the place of a window's.
"""

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from pipeline.errors import ConfigurationError, Conflict
from pipeline.ledger import jobs
from pipeline.ledger.clock import opens_next
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest, Output, Scope, Window
from pipeline.records import JobState, WorkState

log = logging.getLogger(__name__)

OF_A_WINDOW = "window "  # how the owner of such a pause begins; no operator is called so
GOING_ON = f"{JobState.CREATED}, {JobState.RUNNING}"


# ---- pauses

# What a pause that ends now adds: how fast photos are tagged is not told by the hours in which nobody was to.
_RESTED = """
rested_seconds = rested_seconds + CASE WHEN paused_at IS NULL OR started_at IS NULL THEN 0
    ELSE extract(epoch FROM clock_timestamp() - greatest(paused_at, started_at)) END"""
_PAUSE = text(f"""
UPDATE core.job SET {_RESTED},
    state = {JobState.PAUSED}, paused_by = :by, paused_at = clock_timestamp(), pause_reason = :reason,
    pause_until = coalesce(CAST(:until AS timestamptz), clock_timestamp() + make_interval(secs => :seconds))
WHERE job_id = :job
  AND (state IN ({GOING_ON}) OR state = {JobState.PAUSED} AND starts_with(paused_by, '{OF_A_WINDOW}'))""")
_LIFTED = f"""
{_RESTED}, state = CASE WHEN started_at IS NULL THEN {JobState.CREATED} ELSE {JobState.RUNNING} END,
paused_by = NULL, paused_at = NULL, pause_reason = NULL, pause_until = NULL"""


def pause(
    connection: Connection,
    job_id: int,
    by: str,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    seconds: float | None = None,
) -> bool:
    """Give out no more work of a job. False: it is paused already, by whoever was first.

    What was published and not yet claimed is taken back, so that it takes up no room in the queue.

    Args:
        connection: a transaction.
        job_id: of the job.
        by: who asks for it.
        reason: why, for people.
        until: when it goes on by itself; None: not before it is resumed, or `seconds` have passed.
        seconds: how long it rests, by the database's clock.

    Raises:
        ConfigurationError: there is no such job, it has ended or is ending, or `until` is over.
    """
    jobs.refuse_ended(connection, job_id, "paused")
    _refuse_ending(connection, job_id)
    if by.startswith(OF_A_WINDOW):
        raise ConfigurationError(f"Nobody is called {by!r}: this is how windows sign; name a person with --by.")
    if until is not None and until <= jobs.now(connection):
        raise ConfigurationError(f"--until {until:%Y-%m-%d %H:%M:%S} UTC is over; name a later time.")
    return _pause(connection, job_id, by, reason=reason, until=until, seconds=seconds)


def _pause(
    connection: Connection,
    job_id: int,
    by: str,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    seconds: float | None = None,
) -> bool:
    values = {"job": job_id, "by": by, "reason": reason, "until": until, "seconds": seconds}
    paused = connection.execute(_PAUSE, values).rowcount
    for table, key in (("core.shard", "shard_id"), ("core.list_range", "range_id")) if paused else ():
        connection.execute(
            text(f"""UPDATE {table} w SET state = {WorkState.PENDING}
                     FROM (SELECT {key} FROM {table} WHERE job_id = :job AND state = {WorkState.QUEUED}
                           ORDER BY 1 FOR NO KEY UPDATE SKIP LOCKED) queued
                     WHERE w.{key} = queued.{key}"""),
            {"job": job_id},
        )
    return bool(paused)


def resume(connection: Connection, job_id: int, *, ignore_window: bool = False) -> bool:
    """Let a paused job go on, if its window is open. False: it is not paused, or the window alone holds it.

    An operator's pause outside of the window becomes the window's, which ends by itself. `ignore_window` takes the
    window off the job for good.

    Raises:
        ConfigurationError: there is no such job, or it has ended or is ending.
    """
    jobs.refuse_ended(connection, job_id, "resumed")
    _refuse_ending(connection, job_id)
    if ignore_window:
        connection.execute(text('UPDATE core.job SET "window" = NULL WHERE job_id = :job'), {"job": job_id})
    before = jobs.find(connection, job_id)
    opens = opens_next(before.window, jobs.now(connection)) if before.window else None
    if opens is not None and held_by_window(before):
        return False
    resumed = connection.execute(
        text(f"UPDATE core.job SET {_LIFTED} WHERE job_id = :job AND state = {JobState.PAUSED}"), {"job": job_id}
    ).rowcount
    if resumed and before.window is not None and opens is not None:
        _pause(connection, job_id, signature(before.window), until=opens)
    return bool(resumed)


def _refuse_ending(connection: Connection, job_id: int) -> None:
    job = jobs.find(connection, job_id)
    if job.state is JobState.CANCELLING:
        raise Conflict(f"Job {job_id} is {job.condition}; there is no way back, but it can be run again.")


def keep_hours(connection: Connection) -> tuple[list[int], list[int]]:
    """Lift the pauses that have expired, and pause what is outside of its window; returns the jobs of both.

    A job whose operator's pause expires outside of its window is in both: it goes on resting.
    """
    lifted = connection.execute(
        text(f"""UPDATE core.job j SET {_LIFTED}
                 FROM (SELECT job_id FROM core.job WHERE state = {JobState.PAUSED} AND pause_until <= clock_timestamp()
                       ORDER BY 1 FOR NO KEY UPDATE SKIP LOCKED) over WHERE j.job_id = over.job_id
                 RETURNING j.job_id""")
    ).scalars()
    expired = sorted(lifted)
    now = jobs.now(connection)
    rows = connection.execute(
        text(f"""SELECT job_id, "window" FROM core.job WHERE "window" IS NOT NULL AND state IN ({GOING_ON})
                 ORDER BY 1 FOR NO KEY UPDATE SKIP LOCKED""")
    ).all()
    closed = []
    for job_id, facts in rows:
        window = Window(**facts)
        opens = _opens(window, now)
        if opens is not None and _pause(connection, job_id, signature(window), until=opens):
            closed.append(job_id)
    return expired, closed


def _opens(window: Window, now: datetime) -> datetime | None:
    """As `opens_next`; where this machine does not know the zone, the window stays shut, and the others' jobs go on."""
    try:
        return opens_next(window, now)
    except ConfigurationError as exc:
        log.warning("a window cannot be told: %s", exc)
        return now + timedelta(hours=1)


def signature(window: Window) -> str:
    """Who paused a job that is outside of its window."""
    return f"{OF_A_WINDOW}{window.begins}-{window.ends} {window.timezone}"


def held_by_window(job: Job) -> bool:
    """Whether a job is paused, and by nobody but its window."""
    return job.state is JobState.PAUSED and (job.paused_by or "").startswith(OF_A_WINDOW)


# ---- priority, and another try


def set_priority(connection: Connection, job_id: int, priority: int) -> None:
    """Let a job and its open shards go before those of a lower priority from now on.

    Raises:
        ConfigurationError: there is no such job, or it has ended.
    """
    jobs.refuse_ended(connection, job_id, "given another priority")
    connection.execute(
        text("UPDATE core.job SET priority = :priority WHERE job_id = :job"), {"priority": priority, "job": job_id}
    )
    connection.execute(
        text(f"""UPDATE core.shard s SET priority = :priority
                 FROM (SELECT shard_id FROM core.shard WHERE job_id = :job AND priority <> :priority
                         AND state IN ({WorkState.PENDING}, {WorkState.QUEUED}, {WorkState.LEASED})
                       ORDER BY 1 FOR NO KEY UPDATE) mine WHERE s.shard_id = mine.shard_id"""),
        {"priority": priority, "job": job_id},
    )


def retry_of(job: Job, *, failed: int, everything: bool = False, outputs: tuple[Output, ...] = ()) -> JobRequest:
    """What is asked for to try the photos again that a job failed on: the same model, the same priority.

    Args:
        job: as it stands.
        failed: photos of it that failed and that the ledger knows.
        everything: also those that failed for what their bytes are, which another try of the same bytes cannot mend.
        outputs: where the results of the new try go; those of `job` stay as they are.

    Raises:
        ConfigurationError: the job still goes on, is forgotten, or nothing of it can be tried again.
    """
    if not job.state.ended:
        raise Conflict(f"Job {job.job_id} is {job.condition}; what failed can be tried again once it has ended.")
    jobs.check_remembered(job)
    if not failed:
        raise Conflict(f"Job {job.job_id} has no photo that failed; there is nothing to try again.")
    return JobRequest(
        kind="ledger",
        source=f"job:{job.job_id}",
        user_rule=job.user_rule,
        fixed_user=job.fixed_user,
        priority=job.priority,
        scope=Scope.ALL if everything else Scope.FAILED,
        outputs=outputs,
        retry_of=job.job_id,
    )
