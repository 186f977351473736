"""``pictograph tag``: the main job."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pictograph.cli.console import Json, emit, err, note, out, ready, say
from pictograph.follow import Report, follow, report
from pictograph.places import embedded
from pictograph.stack import Service
from pictograph.supervisor import Supervisor
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job, JobRequest
from pipeline.records import ItemState, JobState
from pipeline.settings import Settings
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import S3Access
from pipeline.sources.user_rule import UserRule
from pipeline.store.migrate import migrate
from pipeline.store.session import Database
from workers.ledger import open_database, register

group = typer.Typer()


@group.command(
    epilog="Example: `pictograph tag s3://photos/2026 --user-from 'uploads/{user}/{photo}'`",
)
def tag(
    source: Annotated[str, typer.Argument(help="s3://bucket/prefix, a folder, or a .jsonl manifest.")],
    *,
    user_from: Annotated[
        str, typer.Option(help="How a key names its owner: {user} is one path segment, {photo} the rest.")
    ] = "{user}/{photo}",
    user: Annotated[str | None, typer.Option(help="All photos belong to this user.")] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep what is gone from the source.")] = False,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Subtract what is gone even if it is more than 20 %.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and return.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any photo failed.")] = False,
    as_json: Json = False,
) -> None:
    """Tag the photos of SOURCE: those that are new or changed since the last time."""
    kind, place = kind_of(source)
    rule = UserRule.parse(user_from, user)
    request = JobRequest(
        kind=kind,
        source=place,
        user_rule=rule.template,
        fixed_user=user,
        priority=priority,
        keep_missing=keep_missing,
        allow_mass_delete=allow_mass_delete,
    )
    with ready(quiet=as_json) as settings, open_database(settings, "pictograph tag") as database:
        open_source(kind, place, rule, S3Access.of(settings)).check()
        job_id = submit(settings, database, request)
        if no_wait:
            _submitted(job_id, as_json=as_json)
            return
        with Supervisor(settings) as supervisor:
            job = run_job(database, job_id, supervisor, show=not as_json)
    result = report(job)
    emit(asdict(result)) if as_json else show(result)
    failed = job.count(ItemState.FAILED)
    if job.state is JobState.FAILED or (strict and failed):
        raise typer.Exit(1)


def submit(settings: Settings, database: Database, request: JobRequest) -> int:
    """Create a job for the configured model, on a database that is brought up to date if it is ours."""
    if own_ledger(Settings.read()):
        migrate(database)
    registered = register(database, settings.model)
    return database.run(lambda connection: jobs.submit(connection, request, registered.model_id))


def run_job(database: Database, job_id: int, supervisor: Supervisor, *, show: bool) -> Job:
    """Wait for a job; with the embedded database, its workers are started here unless somebody runs them."""
    ensure_workers = supervisor.start_if_free if own_ledger(Settings.read()) else lambda: None
    try:
        return follow(database, job_id, err, show=show, ensure_workers=ensure_workers)
    except KeyboardInterrupt:
        note(f"Job {job_id} is not lost: `pictograph up` goes on with it, `pictograph jobs show {job_id}` tells.")
        raise


def own_ledger(settings: Settings) -> bool:
    """Whether the ledger is the embedded one, and so its workers are ours to run."""
    return Service.POSTGRES in embedded(settings)


def _submitted(job_id: int, *, as_json: bool) -> None:
    if as_json:
        emit({"job": job_id, "state": "created"})
    else:
        say(f"Job {job_id} is submitted; `pictograph jobs show {job_id}` tells how it goes.")


def show(result: Report) -> None:
    """The report, for people."""
    say(f"Job {result.job} {result.state.replace('_', ' ')}: {result.counts['total']:,} photos met.")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, n in result.counts.items():
        if n and name != "total":
            table.add_row(f"{n:,}", name.replace("_", " "))
    for name, n in result.reasons.items():
        table.add_row("", f"{n:,} {name.replace('_', ' ')}")
    if result.subtracted:
        table.add_row(f"{result.subtracted:,}", "gone from the source, subtracted")
    out.print(table)
    if result.photos_per_s:
        say(f"{result.photos_per_s:,} photos/s")
    for sentence in result.notes:
        say(f"- {sentence}")
    if result.error:
        err.print(f"[bold red]Error:[/] {result.error}")
