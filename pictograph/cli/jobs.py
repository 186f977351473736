"""``pictograph jobs``: what runs, what ran, what became of it; why one does not move; letting one rest."""

import getpass
import os
import socket
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from pictograph.cli.connect import looking, reading, writing
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.tag import show
from pictograph.follow import report
from pipeline.ledger import control, jobs, why
from pipeline.ledger.jobs import Job
from pipeline.records import ItemState
from pipeline.store.roles import Role

FAILURES_SHOWN = 20

JobId = Annotated[int, typer.Argument(metavar="ID", min=1, help="The job's number.")]

group = typer.Typer(**STYLE)
jobs_group = typer.Typer(**STYLE, help="Running and past jobs.", epilog="Example: `pictograph jobs list`")
group.add_typer(jobs_group, name="jobs")


@jobs_group.command("list", epilog="Example: `pictograph jobs list --limit 5`")
def list_jobs(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20, as_json: Json = False
) -> None:
    """The newest jobs, newest first."""
    with reading() as connection:
        found = jobs.newest(connection, limit)
    if as_json:
        for job in found:
            emit(_facts(job))
    elif found:
        out.print(_table(found))
    else:
        say("There are no jobs yet; `pictograph tag SOURCE` starts one.")


def _table(found: list[Job]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("job", "photos", "done", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("state", "started (UTC)"):
        table.add_column(name, no_wrap=True)
    table.add_column("source", overflow="fold")
    for job in found:
        done = job.count(ItemState.SUCCEEDED, ItemState.SKIPPED_UNCHANGED, ItemState.ERASED)
        table.add_row(
            str(job.job_id),
            f"{job.total:,}",
            f"{done:,}",
            f"{job.count(ItemState.FAILED):,}",
            job.condition.replace("_", " "),
            f"{job.started_at:%Y-%m-%d %H:%M}" if job.started_at else "-",
            plain(job.source),
        )
    return table


@jobs_group.command("show", epilog="Example: `pictograph jobs show 3`")
def show_job(job_id: JobId, *, as_json: Json = False) -> None:
    """One job: how far it is, what failed and why."""
    with reading() as connection:
        job = jobs.find(connection, job_id)
        failures = jobs.failures(connection, job_id, limit=FAILURES_SHOWN)
    if as_json:
        emit({**_facts(job), "failures": [asdict(failure) for failure in failures]})
        return
    show(job)
    for failure in failures:
        say(f"- {failure.key}: {failure.code.replace('_', ' ')}. {failure.message or ''}")
    if job.count(ItemState.FAILED) > len(failures) > 0:
        say(f"These are the first {len(failures)} of {job.count(ItemState.FAILED):,} that failed.")


@jobs_group.command("why", epilog="Example: `pictograph jobs why 3`")
def why_job(job_id: JobId, *, as_json: Json = False) -> None:
    """Why a job does not move, in one sentence; or that it moves, or how it ended."""
    with looking() as connection:
        situation = why.gather(connection, job_id)
    reason = why.explain(situation)
    if as_json:
        facts = {name: value for name, value in asdict(situation).items() if name != "job"}
        emit({"job": job_id, "reason": reason.code, "moves": reason.moves, "sentence": reason.sentence, **facts})
    else:
        say(reason.sentence)


@jobs_group.command("pause", epilog="Example: `pictograph jobs pause 3`")
def pause_job(
    job_id: JobId,
    *,
    by: Annotated[str | None, typer.Option("--by", help="Who asks for it; default user@host.")] = None,
    as_json: Json = False,
) -> None:
    """Let a job rest: no more of it is begun, and what workers hold of it is finished."""
    with writing(Role.INGEST) as connection:
        changed = control.pause(connection, job_id, by or _whoami())
        job = jobs.find(connection, job_id)
    if as_json:
        emit({**_facts(job), "changed": changed})
    elif not changed:
        say(f"Job {job_id} was paused before, by {job.paused_by} at {job.paused_at:%Y-%m-%d %H:%M:%S} UTC.")
    elif job.in_hand:
        say(f"Job {job_id} is pausing: what workers hold of it is finished first.")
    else:
        say(f"Job {job_id} is paused; `pictograph jobs resume {job_id}` lets it go on.")


@jobs_group.command("resume", epilog="Example: `pictograph jobs resume 3`")
def resume_job(job_id: JobId, *, as_json: Json = False) -> None:
    """Let a paused job go on."""
    with writing(Role.INGEST) as connection:
        changed = control.resume(connection, job_id)
        job = jobs.find(connection, job_id)
    if as_json:
        emit({**_facts(job), "changed": changed})
    else:
        say(f"Job {job_id} goes on." if changed else f"Job {job_id} is not paused.")


def _whoami() -> str:
    """user@host; the user's number where the system has no name for it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container that runs as a number that nobody named
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _facts(job: Job) -> dict[str, Any]:
    times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    paused = {"paused_by": job.paused_by, "paused_at": job.paused_at} if job.paused_at else {}
    return {**asdict(report(job)), "source": job.source, "model": job.model, **times, **paused}
