"""``pictograph tag``: the main job."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pictograph.cli.connect import own_ledger, ready, set_up
from pictograph.cli.console import STYLE, Json, complain, emit, err, note, out, say
from pictograph.follow import REPORTED, follow, report
from pictograph.supervisor import Supervisor
from pipeline.ledger import jobs
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest
from pipeline.records import Code, ItemState, JobState
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import S3Access
from pipeline.sources.user_rule import UserRule
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.ledger import open_database, registered
from workers.models import registry

group = typer.Typer(**STYLE)


@group.command(
    epilog="Example: `pictograph tag s3://photos/2026 --user-from 'uploads/{user}/{photo}'`",
)
def tag(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="s3://bucket/prefix, a folder, or a .jsonl manifest.")
    ],
    *,
    user_from: Annotated[
        str, typer.Option(help="How a key below SOURCE names its owner: {user} is one path segment, {photo} the rest.")
    ] = "{user}/{photo}",
    user: Annotated[str | None, typer.Option(help="All photos belong to this user.")] = None,
    model: Annotated[str | None, typer.Option(help="The model; unless given, PICTOGRAPH_MODEL.")] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep what is gone from the source.")] = False,
    allow_mass_delete: Annotated[
        bool, typer.Option("--allow-mass-delete", help="Subtract what is gone even if it is more than 20 %.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and return.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any photo failed.")] = False,
    as_json: Json = False,
) -> None:
    """Tag the photos of SOURCE: those that are new or changed since the last time.

    Exit status: 0 if every photo has ended in some state, 1 if the job failed, 2 for wrong use or configuration.
    """
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
    with ready(quiet=as_json) as found, open_database(found, "pictograph tag", Role.INGEST) as database:
        settings = found if model is None else found.model_copy(update={"model": model})
        open_source(kind, place, rule, S3Access.of(settings), Allowed.of(settings)).check(
            may_be_empty=allow_mass_delete
        )
        job_id = submit(settings, database, request)
        if no_wait:
            _submitted(database, job_id, as_json=as_json)
            return
        with Supervisor(settings) as supervisor:
            job = run_job(database, job_id, supervisor, as_json=as_json)
    if job.state is JobState.FAILED or (strict and job.count(ItemState.FAILED)):
        raise typer.Exit(1)


def submit(settings: Settings, database: Database, request: JobRequest) -> int:
    """Create a job for the configured model, on a database that is brought up to date if it is ours."""
    if own_ledger():
        set_up(settings)
    model_id = registered(database, registry.chosen(settings)).model_id
    return database.run(lambda connection: jobs.submit(connection, request, model_id))


def run_job(database: Database, job_id: int, supervisor: Supervisor, *, as_json: bool) -> Job:
    """Wait for a job and tell how it ended; the supervisor's workers do it if the database is the embedded one."""
    try:
        job = follow(database, job_id, err, show=not as_json, supervisor=supervisor if own_ledger() else None)
    except (KeyboardInterrupt, SystemExit):
        note(f"Job {job_id} is not lost: `pictograph up` goes on with it, `pictograph jobs show {job_id}` tells.")
        raise
    emit(asdict(report(job))) if as_json else show(job)
    return job


def _submitted(database: Database, job_id: int, *, as_json: bool) -> None:
    if as_json:
        emit(asdict(report(database.run(lambda connection: jobs.find(connection, job_id)))))
    else:
        say(f"Job {job_id} is submitted; `pictograph jobs show {job_id}` tells how it goes.")


def show(job: Job) -> None:
    """A job's report, for people."""
    result = report(job)
    photos = "1 photo" if job.total == 1 else f"{job.total:,} photos"
    pace = f" in {result.seconds:,.1f} s, {result.photos_per_s:,} photos/s" if result.photos_per_s else ""
    say(f"Job {job.job_id} {result.state.replace('_', ' ')}: {photos}{pace}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    for state in (*REPORTED, ItemState.PENDING, ItemState.RETRY):
        if job.count(state):
            table.add_row(f"{job.count(state):,}", _words(state.name), _reasons(job, state))
    if result.subtracted:
        table.add_row(f"{result.subtracted:,}", "subtracted", "gone from the source")
    if table.row_count:
        out.print(table)
    for sentence in result.notes:
        say(f"- {sentence}")
    if result.error:
        complain(result.error)


def _reasons(job: Job, state: ItemState) -> str:
    return ", ".join(f"{n:,} {_words(code.name)}" for code, n in job.by_code(state).items() if code is not Code.NONE)


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
