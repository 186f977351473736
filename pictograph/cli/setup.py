"""``pictograph migrate`` and ``pictograph doctor``: setting up and looking after."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from pictograph import checkup
from pictograph.checkup import Finding
from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pictograph.places import DATABASE
from pipeline.errors import PictographError
from pipeline.settings import Settings
from pipeline.store import migrate as migrations
from workers.ledger import open_database, register
from workers.models import registry

group = typer.Typer(**STYLE)


@group.command(epilog="Example: `PICTOGRAPH_DATABASE_URL=postgresql://... pictograph migrate`")
def migrate(*, as_json: Json = False) -> None:
    """Bring the database to the newest revision.

    Makes the configured model known to it, too. Safe to repeat.
    """
    with ready(DATABASE, quiet=as_json) as settings, open_database(settings, "pictograph migrate") as database:
        before, after = migrations.migrate(database)
        register(database, registry.chosen(settings))
    if as_json:
        emit({"before": before, "after": after})
    elif before == after:
        say(f"The database is at revision {after} already.")
    else:
        say(f"The database is at revision {after} (before: {before or 'no tables'}).")


@group.command(epilog="Example: `pictograph doctor --json`")
def doctor(
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Audit the whole ledger: totals, counts, leases, results; repairs are named.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every connection, the model and the versions.

    Says what to do about each failure; exit status 1 if there is any.
    """
    settings = Settings.read()
    try:
        with ready(quiet=as_json) as found:
            findings = checkup.examine(found, checkup.every_check(deep=deep))
            findings += checkup.examine_ledger(found) if deep else []
    except PictographError as exc:
        stack = Finding(what="embedded servers", ok=False, detail=str(exc))
        findings = [stack, *checkup.examine(settings, checkup.WITHOUT_SERVERS)]
    if as_json:
        for finding in findings:
            emit(finding.as_dict())
    else:
        out.print(_table(findings))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        mark = Text("ok", "green") if finding.ok else Text("failed", "bold red")
        table.add_row(mark, finding.what, plain(finding.detail))
    return table
