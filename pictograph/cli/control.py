"""``pictograph jobs pause|resume|cancel|retry|priority``: what an operator does to a job that is there."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, Json, emit, say
from pictograph.cli.moments import moment, seconds
from pictograph.cli.request import check
from pictograph.cli.tag import run_job
from pictograph.follow import report
from pictograph.places import DATABASE
from pictograph.supervisor import Supervisor
from pipeline.errors import ConfigurationError
from pipeline.ledger import control, ending, jobs
from pipeline.ledger.jobs import Job
from pipeline.ledger.targets import parse_output
from pipeline.records import ItemState, JobState
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.ledger import open_database

JobId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The job's number.")]
By = Annotated[str | None, typer.Option("--by", help="Who asks for it; default user@host.")]

group = typer.Typer(**STYLE)  # a part of `pictograph jobs`


@group.command("pause", epilog="Example: `pictograph jobs pause 3 --for 2h --reason 'the store is being moved'`")
def pause_job(
    job_id: JobId,
    *,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="When it goes on by itself: 2026-11-21T06:00 (UTC).")
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="After how long it goes on by itself: 90s, 30m, 2h, 1d.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for others to read.")] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let a job rest: no more of it is begun, and what workers hold of it is finished."""
    if until and duration:
        raise ConfigurationError("--until and --for say the same thing; give one of them.")
    end = moment(until) if until else None
    rest = seconds(duration) if duration else None
    with controlling() as database:
        changed = database.run(
            lambda c: control.pause(c, job_id, by or whoami(), reason=reason, until=end, seconds=rest)
        )
        job = database.run(lambda c: jobs.find(c, job_id))
    if as_json:
        emit({**facts(job), "changed": changed})
    elif not changed:
        say(f"Job {job_id} was paused before, by {job.paused_by} at {job.paused_at:%Y-%m-%d %H:%M:%S} UTC.")
    elif job.in_hand:
        say(f"Job {job_id} is pausing: what workers hold of it is finished first.")
    elif job.pause_until:
        say(f"Job {job_id} is paused until {job.pause_until:%Y-%m-%d %H:%M:%S} UTC.")
    else:
        say(f"Job {job_id} is paused; `pictograph jobs resume {job_id}` lets it go on.")


@group.command("resume", epilog="Example: `pictograph jobs resume 3`")
def resume_job(
    job_id: JobId,
    *,
    ignore_window: Annotated[
        bool, typer.Option("--ignore-window", help="Take its window off the job: it runs at any hour.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a paused job go on, as soon as its window is open if it has one."""
    with controlling() as database:
        changed = database.run(lambda c: control.resume(c, job_id, ignore_window=ignore_window))
        job = database.run(lambda c: jobs.find(c, job_id))
    if as_json:
        emit({**facts(job), "changed": changed})
    elif control.held_by_window(job):
        say(
            f"Job {job_id} is held by its {job.paused_by} until {job.pause_until:%Y-%m-%d %H:%M:%S} UTC; "
            f"`pictograph jobs resume {job_id} --ignore-window` lets it go on now."
        )
    else:
        say(f"Job {job_id} goes on." if changed else f"Job {job_id} is not paused.")


@group.command("cancel", epilog="Example: `pictograph jobs cancel 3`")
def cancel_job(job_id: JobId, *, by: By = None, as_json: Json = False) -> None:
    """Stop a job for good: what is open of it becomes cancelled, what is done stays. Its results are delivered."""
    with controlling() as database:
        changed = database.run(lambda c: ending.cancel(c, job_id, by or whoami()))
        ending.wind_up_all(database)  # what is large, and what somebody else winds up just now, redrivers end
        job = database.run(lambda c: jobs.find(c, job_id))
    if as_json:
        emit({**facts(job), "changed": changed})
    elif job.state is JobState.CANCELLED:
        say(f"Job {job_id} is cancelled: {job.count(ItemState.CANCELLED):,} photos of it were open.")
    elif job.state.ended:
        say(f"Job {job_id} has failed meanwhile: {job.error}")
    else:
        say(f"Job {job_id} is {job.condition}: nothing more of it is begun, and redrivers do the rest.")


@group.command("priority", epilog="Example: `pictograph jobs priority 3 50`; `pictograph jobs priority 3 -- -5`")
def prefer_job(
    job_id: JobId,
    priority: Annotated[int, typer.Argument(metavar="N", min=-100, max=100, help="Higher goes first.")],
    *,
    as_json: Json = False,
) -> None:
    """Let a job go before others, or behind them, from now on."""
    with controlling() as database:
        database.run(lambda c: control.set_priority(c, job_id, priority))
        job = database.run(lambda c: jobs.find(c, job_id))
    emit(facts(job)) if as_json else say(f"Job {job_id} has priority {priority}.")


@group.command("retry", epilog="Example: `pictograph jobs retry 3`")
def retry_job(
    job_id: JobId,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is corrupt or no image, although its bytes are the same.")
    ] = False,
    output: Annotated[
        list[str] | None, typer.Option("--output", metavar="FILE", help="Where results go: s3://... or a file.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and return.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any photo failed.")] = False,
    as_json: Json = False,
) -> None:
    """Try the photos again that a job failed on: a new job, with the same model and priority."""
    outputs = tuple(parse_output(target) for target in output or ())
    with ready(quiet=as_json) as found, open_database(found, "pictograph retry", Role.INGEST) as database:
        before = database.run(lambda c: jobs.find(c, job_id))
        failed = len(database.run(lambda c: jobs.failures(c, job_id, limit=1)))
        request = control.retry_of(before, failed=failed, everything=everything, outputs=outputs)
        check(found, request)
        new = database.run(lambda c: jobs.submit(c, request, before.model_id))
        if no_wait:
            job = database.run(lambda c: jobs.find(c, new))
            emit(facts(job)) if as_json else say(
                f"Job {new} tries again what failed in job {job_id}; `pictograph jobs show {new}` tells how it goes."
            )
            return
        with Supervisor(found.model_copy(update={"model": before.model})) as supervisor:
            job = run_job(database, new, supervisor, as_json=as_json)
    if job.state in (JobState.FAILED, JobState.CANCELLED) or (strict and job.count(ItemState.FAILED)):
        raise typer.Exit(1)


@contextmanager
def controlling() -> Iterator[Database]:
    """The ledger, to change what is ordered there; its transactions may be repeated."""
    with ready(DATABASE, quiet=True) as settings, open_database(settings, "pictograph", Role.INGEST) as database:
        yield database


def facts(job: Job) -> dict[str, Any]:
    """A job, for machines."""
    times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    orders = {
        "paused_by": job.paused_by,
        "paused_at": job.paused_at,
        "pause_reason": job.pause_reason,
        "pause_until": job.pause_until,
        "cancelled_by": job.cancelled_by,
        "retry_of": job.retry_of,
        "tidying_at": job.tidying_at,
        "window": job.window and asdict(job.window),
        "max_failed": job.most_failed_share,
    }
    told = {name: value for name, value in orders.items() if value is not None}
    known = {"source": job.source, "model": job.model, "priority": job.priority}
    return {**asdict(report(job)), **known, **times, **told}


def whoami() -> str:
    """user@host; the user's number where the system has no name for it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container that runs as a number that nobody named
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
