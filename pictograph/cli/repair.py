"""``pictograph repair``: make right again what ``pictograph doctor --deep`` has found, while workers go on."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import typer
from sqlalchemy import Connection

from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, Json, emit, say
from pictograph.places import DATABASE
from pipeline.ledger import repair
from pipeline.ledger.audit import Patience
from pipeline.ledger.repair import Repaired
from pipeline.settings import Settings
from workers.ledger import open_database

TIMES_AT_ONCE = 5_000  # results; a transaction of well under a second
USERS_AT_ONCE = 500  # who are counted as they answered; others wait for their locks meanwhile

group = typer.Typer(**STYLE)
repair_group = typer.Typer(
    **STYLE,
    help="Make right again what `pictograph doctor --deep` finds; workers may go on meanwhile.",
    epilog="Example: `pictograph repair totals`",
)
group.add_typer(repair_group, name="repair")


@repair_group.command("totals", epilog="Example: `pictograph repair totals`")
def totals(*, as_json: Json = False) -> None:
    """Correct the totals to a recount of the results."""
    _repair(lambda connection, _: repair.totals(connection), as_json=as_json)


@repair_group.command("counts", epilog="Example: `pictograph repair counts`")
def counts(*, as_json: Json = False) -> None:
    """Correct the counts of jobs to a recount of their photos."""
    _repair(lambda connection, _: repair.counts(connection), as_json=as_json)


@repair_group.command("lines", epilog="Example: `pictograph repair lines`")
def lines(*, as_json: Json = False) -> None:
    """Give up what jobs say of each line of their input where it does not add up."""
    _repair(lambda connection, _: repair.lines(connection), as_json=as_json)


@repair_group.command("leases", epilog="Example: `pictograph repair leases`")
def leases(
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Hand back every lease: no worker is running, or all are to begin anew.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hand back what nobody alive holds, and take back messages that are long lost."""
    _repair(
        lambda connection, settings: repair.leases(connection, Patience.of(settings), everything=now), as_json=as_json
    )


@repair_group.command("items", epilog="Example: `pictograph repair items`")
def items(*, as_json: Json = False) -> None:
    """Bring back photos that nobody would come for, do lost ones again, end jobs that are over."""
    _repair(lambda connection, settings: repair.items(connection, settings.shard_photos), as_json=as_json)


@repair_group.command("results", epilog="Example: `pictograph repair results`")
def results(*, as_json: Json = False) -> None:
    """Delete results that should not be there; photos that need one are tagged again."""
    _repair(lambda connection, _: repair.results(connection), as_json=as_json)


@repair_group.command("times", epilog="Example: `pictograph repair times`")
def times(*, as_json: Json = False) -> None:
    """Give results the time of their photo, some thousands at once: what an older release stored has none."""
    _repair_all(lambda connection: repair.times(connection, TIMES_AT_ONCE), as_json=as_json)


@repair_group.command("shared", epilog="Example: `pictograph repair shared`")
def shared(*, as_json: Json = False) -> None:
    """Count users who consent in the totals that others see; those who consented to an older release are not yet."""
    _repair_all(lambda connection: repair.answers(connection, USERS_AT_ONCE), repair.shared_totals, as_json=as_json)


def _repair_all(
    work: Callable[[Connection], Repaired], *first: Callable[[Connection], Repaired], as_json: bool
) -> None:
    """Transaction after transaction, until one finds nothing to do; `first`: what is done once before."""
    total: Counter[str] = Counter()
    with ready(DATABASE, quiet=as_json) as settings, open_database(settings, "pictograph repair") as database:
        for once in first:
            total.update(database.run(once).changed)
        while done := database.run(work).changed:
            total.update(done)
    _tell(Repaired.of(**{what.replace(" ", "_"): n for what, n in total.items()}), as_json=as_json)


def _repair(work: Callable[[Connection, Settings], Repaired], *, as_json: bool) -> None:
    with ready(DATABASE, quiet=as_json) as settings, open_database(settings, "pictograph repair") as database:
        done = database.run(lambda connection: work(connection, settings))
    _tell(done, as_json=as_json)


def _tell(done: Repaired, *, as_json: bool) -> None:
    if as_json:
        emit({"changed": done.changed})
    elif done.changed:
        say("Repaired: " + ", ".join(f"{n:,} {what}" for what, n in done.changed.items()) + ".")
    else:
        say("Nothing was wrong.")
