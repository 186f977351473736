"""``pictograph schedule``: jobs that start by the clock."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph.cli import request as requests
from pictograph.cli.connect import own_ledger, ready, set_up, writing
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.cli.control import whoami
from pictograph.cli.request import Asked
from pipeline.ledger import clock, schedule, selection
from pipeline.ledger.requests import Scope
from pipeline.ledger.schedule import Firing, Order, Schedule
from pipeline.store.roles import Role
from workers.ledger import open_database

group = typer.Typer(**STYLE)
schedule_group = typer.Typer(
    **STYLE, help="Jobs that start by the clock.", epilog="Example: `pictograph schedule list`"
)
group.add_typer(schedule_group, name="schedule")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]


@schedule_group.command(
    "add",
    epilog="Example: `pictograph schedule add --name nightly --cron '0 2 * * *' --window 01:00-06:00 s3://photos/`",
)
def add_schedule(
    source: requests.Place,
    *,
    name: Annotated[
        str | None,
        typer.Option(help="What it is called: letters, digits, dots, hyphens, underscores; unless given, as SOURCE."),
    ] = None,
    cron: Annotated[str, typer.Option(help="Minute, hour, day of the month, month, day of the week.")],
    timezone: Annotated[str, typer.Option(help="Whose clock: of the IANA database, such as Europe/Berlin.")] = "UTC",
    window: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Only times in these hours of the day count, and its jobs work only then."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model; unless given, whichever is the active one when a job starts.")
    ] = None,
    user_from: requests.UserFrom = requests.USER_FROM,
    user: requests.User = None,
    scope: requests.Scopes = Scope.MISSING,
    filters: requests.Filters = None,
    priority: requests.Priority = 0,
    max_failed: requests.MaxFailed = None,
    output: requests.Outputs = None,
    notify: requests.Notify = None,
    keep_missing: requests.KeepMissing = False,
    allow_mass_delete: requests.AllowMassDelete = False,
    as_json: Json = False,
) -> None:
    """Start a job for SOURCE whenever CRON says so. Redrivers fire it, each time once, however many of them there are.

    Of times that were missed, because no redriver was there, the latest is made up for, if it is not more than 24 hours
    old. While a job of the schedule is under way, no second one is started. An output's name must hold {job}, for which
    the number of each job is put.
    """
    asked = Asked(
        source=source,
        user_from=user_from,
        user=user,
        priority=priority,
        keep_missing=keep_missing,
        allow_mass_delete=allow_mass_delete,
        scope=scope,
        filters=filters or (),
        outputs=output or (),
        notify=notify or (),
        max_failed=max_failed,
    )
    if name is not None:
        schedule.check_name(name)
    clock.check_cron(cron)
    order = Order(
        name=name,
        cron=cron,
        timezone=timezone,
        window=None if window is None else clock.parse_window(window, timezone),
        request=requests.request_of(asked),
        model=model,
        by=whoami(),
    )
    added = _added(order, quiet=as_json)
    if as_json:
        emit(_facts(added))
    else:
        while_up = ", if `pictograph up` runs then" if own_ledger() else ""
        say(f"Schedule {added.name} is added; it is due at {_moment(added.next_at)}{while_up}.")


def _added(order: Order, *, quiet: bool) -> Schedule:
    with ready(quiet=quiet) as settings:
        requests.check(settings, order.request)
        if own_ledger():
            set_up(settings)
        with open_database(settings, "pictograph schedule", Role.INGEST) as database:
            return database.run(lambda connection: _add(connection, order))


def _add(connection: Connection, order: Order) -> Schedule:
    if order.request.kind == selection.KIND:
        selection.check(connection, order.request.source)
    return schedule.add(connection, order)


@schedule_group.command("list", epilog="Example: `pictograph schedule list`")
def list_schedules(*, as_json: Json = False) -> None:
    """All schedules, and when each is due next."""
    with writing(Role.INGEST) as connection:
        found = schedule.every(connection)
    if as_json:
        for each in found:
            emit(_facts(each))
    elif found:
        out.print(_table(found))
    else:
        say("There are no schedules; `pictograph schedule add` makes one.")


@schedule_group.command("remove", epilog="Example: `pictograph schedule remove nightly`")
def remove_schedule(name: Name, *, as_json: Json = False) -> None:
    """Let a schedule fire no more; jobs that it has started go on."""
    with writing(Role.INGEST) as connection:
        removed = schedule.remove(connection, name)
    emit({"removed": removed.name}) if as_json else say(f"Schedule {removed.name} is removed.")


@schedule_group.command("run-now", epilog="Example: `pictograph schedule run-now nightly`")
def run_schedule(name: Name, *, as_json: Json = False) -> None:
    """Start the schedule's job now, unless one is under way; its times stay as they are."""
    with writing(Role.INGEST) as connection:
        fired = schedule.run_now(connection, name, whoami())
        window = schedule.find(connection, name).window
    opens = clock.opens_next(window, fired.due_at) if window else None
    if as_json:
        emit(asdict(fired))
    elif opens is None:
        say(f"Job {fired.job_id} is submitted; `pictograph jobs show {fired.job_id}` tells how it goes.")
    else:
        say(
            f"Job {fired.job_id} is submitted, and rests until its window opens at {_moment(opens)}; "
            f"`pictograph jobs resume {fired.job_id} --ignore-window` lets it go on now."
        )


@schedule_group.command("history", epilog="Example: `pictograph schedule history nightly`")
def show_history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The schedule; unless given, all.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    """When schedules were due and what came of it, newest first."""
    with writing(Role.INGEST) as connection:
        found = schedule.history(connection, name, limit)
    if as_json:
        for fired in found:
            emit(asdict(fired))
    elif found:
        for fired in found:
            say(_sentence(fired))
    else:
        say("Nothing was due yet.")


def _sentence(fired: Firing) -> str:
    what = f"job {fired.job_id}, {(fired.state or '').replace('_', ' ')}" if fired.job_id else "no job"
    missed = f"; {fired.missed:,} earlier missed" if fired.missed else ""
    return f"{_moment(fired.due_at)} {fired.schedule}: {what}{missed}{f'; {fired.note}' if fired.note else ''}"


def _table(found: list[Schedule]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("name", "cron", "time zone", "window", "due next"):
        table.add_column(column, no_wrap=True)
    table.add_column("source", overflow="fold")
    for each in found:
        span = f"{each.window.begins}-{each.window.ends}" if each.window else "-"
        table.add_row(
            each.name, plain(each.cron), each.timezone, span, _moment(each.next_at), plain(each.request.source)
        )
    return table


def _facts(found: Schedule) -> dict[str, Any]:
    """A schedule for machines."""
    facts = asdict(found)
    facts["request"] = found.request.facts()
    return facts


def _moment(value: Any) -> str:  # noqa: ANN401 - a datetime or None
    return f"{value:%Y-%m-%d %H:%M} UTC" if value else "-"
