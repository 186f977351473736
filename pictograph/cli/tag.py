"""``pictograph tag``: the main job."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph import brought
from pictograph.cli.connect import note_shadow, own_ledger, ready, set_up
from pictograph.cli.console import STYLE, Json, complain, emit, err, note, out, say
from pictograph.cli.preview import tell
from pictograph.cli.request import (
    USER_FROM,
    AllowMassDelete,
    Asked,
    Filters,
    Hours,
    KeepMissing,
    Key,
    MaxFailed,
    Notify,
    Outputs,
    Place,
    Priority,
    Scopes,
    Timezone,
    User,
    UserFrom,
    check,
    request_of,
    source_of,
)
from pictograph.follow import REPORTED, follow, report
from pictograph.supervisor import Supervisor
from pipeline.ledger import jobs, selection
from pipeline.ledger.forecast import forecast
from pipeline.ledger.jobs import Job
from pipeline.ledger.requests import JobRequest, Scope
from pipeline.ledger.targets import check_outputs
from pipeline.records import Code, ItemState, JobState
from pipeline.settings import Settings
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.ledger import open_database, registered
from workers.models import registry

group = typer.Typer(**STYLE)


@group.command(
    epilog="Example: `pictograph tag s3://photos/2026 --user-from 'uploads/{user}/{photo}'`",
)
def tag(
    source: Place,
    *,
    user_from: UserFrom = USER_FROM,
    user: User = None,
    model: Annotated[str | None, typer.Option(help="The model; unless given, PICTOGRAPH_MODEL.")] = None,
    scope: Scopes = Scope.MISSING,
    filters: Filters = None,
    priority: Priority = 0,
    keep_missing: KeepMissing = False,
    allow_mass_delete: AllowMassDelete = False,
    outputs: Outputs = None,
    notify: Notify = None,
    max_failed: MaxFailed = None,
    window: Hours = None,
    timezone: Timezone = None,
    idempotency_key: Key = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the job would do, and do nothing.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and return.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any photo failed.")] = False,
    as_json: Json = False,
) -> None:
    """Tag the photos of SOURCE: those that are new or changed since the last time.

    Exit status: 0 if every photo has ended in some state, 1 if the job failed or was cancelled, 2 for wrong use or
    configuration.
    """
    request = request_of(
        Asked(
            source=source,
            user_from=user_from,
            user=user,
            priority=priority,
            keep_missing=keep_missing,
            allow_mass_delete=allow_mass_delete,
            scope=scope,
            filters=filters or (),
            outputs=outputs or (),
            notify=notify or (),
            max_failed=max_failed,
            window=window,
            timezone=timezone,
            idempotency_key=idempotency_key,
        )
    )
    with ready(quiet=as_json) as found, open_database(found, "pictograph tag", Role.INGEST) as database:
        settings = found if model is None else found.model_copy(update={"model": model})
        if dry_run:
            preview(settings, database, request, as_json=as_json)
            return
        check(settings, request)
        job_id = submit(settings, database, request)
        if no_wait:
            _submitted(database, job_id, as_json=as_json)
            return
        with Supervisor(settings) as supervisor:
            job = run_job(database, job_id, supervisor, as_json=as_json)
    if job.state in (JobState.FAILED, JobState.CANCELLED) or (strict and job.count(ItemState.FAILED)):
        raise typer.Exit(1)


def submit(settings: Settings, database: Database, request: JobRequest) -> int:
    """Create a job for the configured model, on a database that is brought up to date if it is ours."""
    model_id = _model_id(settings, database)

    def submitted(connection: Connection) -> int:
        if request.kind == selection.KIND:
            selection.check(connection, request.source)
        return jobs.submit(connection, request, model_id)

    job_id = database.run(submitted)
    note_shadow(database, model_id)
    return job_id


def _model_id(settings: Settings, database: Database) -> int:
    if own_ledger():
        set_up(settings)
    return registered(database, registry.chosen(settings)).model_id


def preview(settings: Settings, database: Database, request: JobRequest, *, as_json: bool) -> None:
    """Say what a job would do; nothing is written."""
    check_outputs(settings, request)
    model_id = _model_id(settings, database)
    source = None
    if request.kind == selection.KIND:
        database.run(lambda connection: selection.check(connection, request.source))
    else:
        source = source_of(settings, request)
        source.check(may_be_empty=request.allow_mass_delete)
    tell(forecast(database, request, model_id, source, settings.page_keys), as_json=as_json)


def run_job(database: Database, job_id: int, supervisor: Supervisor, *, as_json: bool) -> Job:
    """Wait for a job and tell how it ended; the supervisor's workers do it if the database is the embedded one."""
    try:
        job = follow(database, job_id, err, show=not as_json, supervisor=supervisor if own_ledger() else None)
    except (KeyboardInterrupt, SystemExit):
        note(f"Job {job_id} is not lost: `pictograph up` goes on with it, `pictograph jobs show {job_id}` tells.")
        raise
    deliveries = brought.wait(database, job_id)
    if as_json:
        emit({**asdict(report(job)), "deliveries": [brought.facts(each) for each in deliveries]})
    else:
        show(job)
        for sentence in brought.sentences(deliveries):
            say(f"- {sentence}")
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
