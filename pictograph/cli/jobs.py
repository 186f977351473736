"""``pictograph jobs``: what runs, what ran, what became of it; why one does not move."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pictograph import brought
from pictograph.cli import control, results
from pictograph.cli.connect import looking, reading
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.control import JobId, facts
from pictograph.cli.tag import show
from pipeline.ledger import delivery, jobs, why
from pipeline.ledger.jobs import Job
from pipeline.records import ItemState, JobState

FAILURES_SHOWN = 20

group = typer.Typer(**STYLE)
jobs_group = typer.Typer(**STYLE, help="Running and past jobs.", epilog="Example: `pictograph jobs list`")
group.add_typer(jobs_group, name="jobs")
jobs_group.add_typer(control.group)  # those that change something
jobs_group.add_typer(results.group)


@jobs_group.command("list", epilog="Example: `pictograph jobs list --limit 5`")
def list_jobs(
    *, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20, as_json: Json = False
) -> None:
    """The newest jobs, newest first."""
    with reading() as connection:
        found = jobs.newest(connection, limit)
    if as_json:
        for job in found:
            emit(facts(job))
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
        done = job.tagged + job.count(ItemState.SKIPPED_UNCHANGED, ItemState.ERASED)
        table.add_row(
            str(job.job_id),
            f"{job.total:,}",
            f"{done:,}",
            f"{job.count(ItemState.FAILED):,}",
            _condition(job),
            f"{job.started_at:%Y-%m-%d %H:%M}" if job.started_at else "-",
            plain(job.source),
        )
    return table


def _condition(job: Job) -> str:
    until = f" until {job.pause_until:%m-%d %H:%M}" if job.pause_until else ""
    return job.condition.replace("_", " ") + (f" by {plain(job.paused_by)}{until}" if job.paused_by else "")


@jobs_group.command("show", epilog="Example: `pictograph jobs show 3`")
def show_job(job_id: JobId, *, as_json: Json = False) -> None:
    """One job: how far it is, what failed and why."""
    with reading() as connection:
        job = jobs.find(connection, job_id)
        failures = jobs.failures(connection, job_id, limit=FAILURES_SHOWN)
        deliveries = delivery.of_job(connection, job_id)
    if as_json:
        tried = [brought.facts(each) for each in deliveries]
        emit({**facts(job), "failures": [asdict(failure) for failure in failures], "deliveries": tried})
        return
    show(job)
    for sentence in (*_orders(job), *brought.sentences(deliveries)):
        say(f"- {sentence}")
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
        more = {name: value for name, value in asdict(situation).items() if name != "job"}
        emit({"job": job_id, "reason": reason.code, "moves": reason.moves, "sentence": reason.sentence, **more})
    else:
        say(reason.sentence)


def _orders(job: Job) -> Iterator[str]:
    """What operators ordered for it."""
    if job.state is JobState.PAUSED:
        since = f" since {job.paused_at:%Y-%m-%d %H:%M:%S} UTC" if job.paused_at else ""
        until = f", until {job.pause_until:%Y-%m-%d %H:%M:%S} UTC" if job.pause_until else ""
        why = f" ({job.pause_reason})" if job.pause_reason else ""
        yield f"{job.condition}{since}{until}, by {job.paused_by or 'somebody'}{why}"
    if job.cancelled_by:
        yield f"cancelled by {job.cancelled_by}"
    if job.window:
        yield f"runs {job.window.begins}-{job.window.ends} {job.window.timezone} only"
    if job.most_failed_share is not None:
        yield f"is given up if more than {job.most_failed_share:.1%} fail"
    if job.tidying_at:
        yield jobs.forgotten(job)
    if job.retry_of:
        yield f"tries again what failed in job {job.retry_of}"
