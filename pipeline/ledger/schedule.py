"""Schedules: jobs that start by the clock. Any redriver fires what is due; each time is fired exactly once.

Theory of operation
    `next_at` says when a schedule is next due. Who finds one that is due locks its row (others skip it), and in that
    one transaction writes the firing, whose key is (schedule, due time), submits the job, and moves `next_at` on. A
    crash before the commit leaves nothing of it; the next redriver does it all again.

Laws
1. A time that the clock of the schedule's zone names inside of its window is one of its times, and no other is
   (`pipeline.ledger.clock`).
2. *Missed* times (no redriver was there) are made up for once: the latest of them fires, late, and counts the others.
   If even that one is older than `MOST_LATE`, it is written down and starts nothing. The job that starts late keeps to
   its window, as every job does: outside of it, it waits for it to open.
3. While a job of the schedule has not ended, another is not started: the time is written down, and says which one was
   still under way. Nothing is lost by it, because a job finds whatever is there when it lists.
4. Different schedules know nothing of each other, be it that their windows or their sources overlap: their jobs run
   side by side, in the order of their priority, and no photo is counted twice.
5. The model is pinned when it fires: the one that the schedule names, or else the one whose results people see then.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import Connection, text

from pipeline.crashpoints import Point, reached
from pipeline.errors import ConfigurationError
from pipeline.ledger import clock, jobs
from pipeline.ledger.requests import JobRequest, Window
from pipeline.ledger.targets import JOB
from pipeline.records import JobState

MOST_LATE = timedelta(hours=24)
MOST_OF_SOURCE = 40  # characters of it in a name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as it stands."""

    schedule_id: int
    name: str
    cron: str
    timezone: str
    window: Window | None
    request: JobRequest
    model: str | None  # None: whichever is active when it fires
    next_at: datetime | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Firing:
    """A time that a schedule was due, and what came of it."""

    schedule: str
    due_at: datetime
    fired_at: datetime
    job_id: int | None
    state: str | None  # of the job
    missed: int  # earlier times that this one stands for
    note: str | None  # why there is no job, or who asked for it


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody wants to be done by the clock."""

    name: str | None  # None: after its source
    cron: str
    timezone: str
    window: Window | None  # of its jobs as well
    request: JobRequest
    model: str | None  # None: whichever is active when it fires
    by: str


def check_name(name: str) -> None:
    """ConfigurationError unless a schedule may be called so."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name for a schedule; take up to 63 letters, digits, dots, hyphens and underscores."
        )


def _name_after(connection: Connection, source: str) -> str:
    """A name that is free: what the source ends with, and a number where others are called so."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", source.rstrip("/").removeprefix("s3://"))[-MOST_OF_SOURCE:].strip("-")
    stem = words or "schedule"
    taken = set(connection.execute(text("SELECT name FROM core.schedule WHERE removed_at IS NULL")).scalars())
    return next(name for n in count(1) if (name := stem if n == 1 else f"{stem}-{n}") not in taken)


_ADD = """
INSERT INTO core.schedule (name, cron, timezone, "window", request, next_at, created_by)
VALUES (:name, :cron, :timezone, CAST(:window AS jsonb), CAST(:request AS jsonb), :next_at, :by)
ON CONFLICT (name) WHERE removed_at IS NULL DO NOTHING RETURNING schedule_id"""


def add(connection: Connection, order: Order, now: datetime | None = None) -> Schedule:
    """Write a schedule down; it is next due at its first time after `now` (None: by the database's clock).

    Raises:
        ConfigurationError: it could never run, its outputs would overwrite each other, or its name is taken.
    """
    name = order.name if order.name is not None else _name_after(connection, order.request.source)
    check_name(name)
    moment = now or _now(connection)
    clock.check_schedule(order.cron, order.timezone, order.window, moment)
    for output in order.request.outputs:
        if JOB not in output.target:
            raise ConfigurationError(
                f"--output {output.target} would be overwritten by each run; write {JOB} where the job's number goes."
            )
    if order.model is not None:
        _model_named(connection, order.model)
    next_at = clock.next_after(order.cron, order.timezone, moment, order.window)
    if next_at is None:
        raise ConfigurationError(f"--cron {order.cron!r} would never run inside of its window; widen one of the two.")
    request = replace(order.request, window=order.window)
    values = {
        "name": name,
        "cron": order.cron,
        "timezone": order.timezone,
        "window": order.window and json.dumps(asdict(order.window)),
        "request": json.dumps({"model": order.model, "job": request.facts()}),
        "next_at": next_at,
        "by": order.by,
    }
    if connection.execute(text(_ADD), values).scalar() is None:
        raise ConfigurationError(f"There is a schedule {name!r} already; remove it first, or take another name.")
    return find(connection, name)


_COLUMNS = 'schedule_id, name, cron, timezone, "window", request, next_at, created_by, created_at'


def find(connection: Connection, name: str) -> Schedule:
    """The schedule of that name; ConfigurationError if there is none."""
    query = text(f"SELECT {_COLUMNS} FROM core.schedule WHERE name = :name AND removed_at IS NULL")
    row = connection.execute(query, {"name": name}).mappings().first()
    if row is None:
        raise _unknown(name)
    return _schedule(row)


def _unknown(name: str) -> ConfigurationError:
    return ConfigurationError(f"There is no schedule {name!r}; `pictograph schedule list` shows those there are.")


def every(connection: Connection) -> list[Schedule]:
    """All schedules, by name."""
    query = text(f"SELECT {_COLUMNS} FROM core.schedule WHERE removed_at IS NULL ORDER BY name")
    return [_schedule(row) for row in connection.execute(query).mappings()]


def _schedule(row: Mapping[str, Any] | Any) -> Schedule:  # noqa: ANN401 - SQLAlchemy's own kind of mapping
    facts = dict(row)
    request = facts.pop("request")
    window = facts.pop("window")
    return Schedule(
        **facts,
        window=window and Window(**window),
        request=JobRequest.of(request["job"]),
        model=request["model"],
    )


def remove(connection: Connection, name: str) -> Schedule:
    """Let a schedule fire no more; its jobs go on, and its history stays."""
    found = find(connection, name)
    connection.execute(
        text("UPDATE core.schedule SET removed_at = now(), next_at = NULL WHERE schedule_id = :id"),
        {"id": found.schedule_id},
    )
    return found


_HISTORY = """
SELECT s.name AS schedule, f.due_at, f.fired_at, f.job_id, j.state, f.missed, f.note
FROM core.firing f JOIN core.schedule s USING (schedule_id) LEFT JOIN core.job j USING (job_id)
WHERE s.name = coalesce(:name, s.name) ORDER BY f.due_at DESC, s.name LIMIT :limit"""


def history(connection: Connection, name: str | None, limit: int) -> list[Firing]:
    """The newest firings, newest first, of schedules that are gone as well; of all if no name is given.

    Raises:
        ConfigurationError: no schedule was ever called so.
    """
    known = text("SELECT EXISTS (SELECT FROM core.schedule WHERE name = :name)")
    if name is not None and not connection.execute(known, {"name": name}).scalar_one():
        raise _unknown(name)
    rows = connection.execute(text(_HISTORY), {"name": name, "limit": limit}).mappings()
    return [
        Firing(**{**row, "state": None if row["state"] is None else JobState(row["state"]).name.lower()})
        for row in rows
    ]


# ---- firing

_NOW = "coalesce(CAST(:now AS timestamptz), clock_timestamp())"
_DUE = f"next_at <= {_NOW} AND removed_at IS NULL"
_NEXT_DUE = f"""
SELECT {_COLUMNS}, {_NOW} AS now FROM core.schedule
WHERE {_DUE} ORDER BY next_at, schedule_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""
_FIRE = """
INSERT INTO core.firing (schedule_id, due_at, missed) VALUES (:id, :due_at, :missed)
ON CONFLICT DO NOTHING RETURNING schedule_id"""


def is_due(connection: Connection, now: datetime | None = None) -> bool:
    """Whether some schedule is due."""
    query = text(f"SELECT EXISTS (SELECT FROM core.schedule WHERE {_DUE})")
    due: bool = connection.execute(query, {"now": now}).scalar_one()
    return due


def fire_next(connection: Connection, now: datetime | None = None) -> Firing | None:
    """Fire one schedule that is due and that nobody else is firing; None: there is none. One transaction's worth.

    `now` is the database's clock; another one is for tests.
    """
    row = connection.execute(text(_NEXT_DUE), {"now": now}).mappings().first()
    if row is None:
        return None
    facts = dict(row)
    moment = facts.pop("now")
    return _fire(connection, _schedule(facts), moment)


def _fire(connection: Connection, due: Schedule, now: datetime) -> Firing:
    first = due.next_at or now
    due_at, missed = clock.latest_due(due.cron, due.timezone, first, now, due.window)
    fired = connection.execute(text(_FIRE), {"id": due.schedule_id, "due_at": due_at, "missed": missed}).scalar()
    note = _why_not(connection, due, due_at, now) if fired is not None else "it was fired before"
    job_id = None
    if note is None:
        job_id, note = _start(connection, due)
    reached(Point.SCHEDULE_BEFORE_COMMIT)
    if fired is not None:
        _note(connection, due.schedule_id, due_at, job_id, note)
    connection.execute(
        text("UPDATE core.schedule SET next_at = :next_at WHERE schedule_id = :id"),
        {"id": due.schedule_id, "next_at": clock.next_after(due.cron, due.timezone, max(now, due_at), due.window)},
    )
    return Firing(schedule=due.name, due_at=due_at, fired_at=now, job_id=job_id, state=None, missed=missed, note=note)


def _why_not(connection: Connection, due: Schedule, due_at: datetime, now: datetime) -> str | None:
    """Why nothing is started; None: nothing speaks against it."""
    if now - due_at > MOST_LATE:
        hours = MOST_LATE // timedelta(hours=1)
        return f"No redriver was there, and when one came it was more than {hours} hours late."
    running = _under_way(connection, due.schedule_id)
    return None if running is None else f"Job {running} of this schedule was still under way."


def _under_way(connection: Connection, schedule_id: int) -> int | None:
    query = text(f"SELECT max(job_id) FROM core.job WHERE schedule_id = :id AND state < {JobState.SUCCEEDED}")
    running: int | None = connection.execute(query, {"id": schedule_id}).scalar()
    return running


def _start(connection: Connection, due: Schedule) -> tuple[int | None, str | None]:
    """The job, or why there is none."""
    try:
        model_id = _active_model(connection) if due.model is None else _model_named(connection, due.model)
    except ConfigurationError as exc:  # others must still be fired
        return None, str(exc)
    return jobs.submit(connection, replace(due.request, schedule_id=due.schedule_id), model_id), None


def _note(connection: Connection, schedule_id: int, due_at: datetime, job_id: int | None, note: str | None) -> None:
    connection.execute(
        text("UPDATE core.firing SET job_id = :job, note = :note WHERE schedule_id = :id AND due_at = :due_at"),
        {"id": schedule_id, "due_at": due_at, "job": job_id, "note": note},
    )


def run_now(connection: Connection, name: str, by: str) -> Firing:
    """Start the schedule's job now, beside its times, which stay as they are.

    Raises:
        ConfigurationError: there is no such schedule, its model is gone, or a job of it is still under way.
    """
    found = find(connection, name)
    connection.execute(
        text("SELECT FROM core.schedule WHERE schedule_id = :id FOR NO KEY UPDATE"), {"id": found.schedule_id}
    )
    running = _under_way(connection, found.schedule_id)
    if running is not None:
        raise ConfigurationError(f"Job {running} of schedule {name!r} is still under way; wait for it, or cancel it.")
    job_id, why_not = _start(connection, found)
    if job_id is None:
        raise ConfigurationError(why_not or "")
    now = _now(connection)
    connection.execute(text(_FIRE), {"id": found.schedule_id, "due_at": now, "missed": 0})
    _note(connection, found.schedule_id, now, job_id, f"asked for by {by}")
    return Firing(
        schedule=name, due_at=now, fired_at=now, job_id=job_id, state=None, missed=0, note=f"asked for by {by}"
    )


def _model_named(connection: Connection, name: str) -> int:
    query = text("SELECT max(model_id) FROM core.model WHERE name = :name AND dropped_at IS NULL")
    model_id: int | None = connection.execute(query, {"name": name}).scalar()
    if model_id is None:
        raise ConfigurationError(f"The ledger knows no model {name!r}; `pictograph models list` shows those there are.")
    return model_id


def _active_model(connection: Connection) -> int:
    model_id: int | None = connection.execute(text("SELECT model_id FROM core.active_model")).scalar()
    if model_id is None:
        raise ConfigurationError("No model is active; name one with --model, or promote one.")
    return model_id


def _now(connection: Connection) -> datetime:
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment
