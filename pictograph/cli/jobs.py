"""``pictograph jobs``: what runs, what ran, what became of it."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from pictograph.cli.connect import reading
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.tag import show
from pictograph.follow import report
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.records import ItemState

FAILURES_SHOWN = 20

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
        done = job.count(ItemState.SUCCEEDED, ItemState.SKIPPED_UNCHANGED)
        table.add_row(
            str(job.job_id),
            f"{job.total:,}",
            f"{done:,}",
            f"{job.count(ItemState.FAILED):,}",
            job.state.name.lower().replace("_", " "),
            f"{job.started_at:%Y-%m-%d %H:%M}" if job.started_at else "-",
            plain(job.source),
        )
    return table


@jobs_group.command("show", epilog="Example: `pictograph jobs show 3`")
def show_job(
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The job's number.")], *, as_json: Json = False
) -> None:
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


def _facts(job: Job) -> dict[str, Any]:
    times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
    return {**asdict(report(job)), "source": job.source, "model": job.model, **times}
