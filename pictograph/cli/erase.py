"""``pictograph erase``: everything that is stored about a user goes, with a receipt."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, Json, emit, fail, say
from pictograph.places import DATABASE
from pipeline.errors import ConfigurationError
from pipeline.ledger import erase as erasing
from pipeline.ledger.erase import Receipt
from pipeline.store.roles import Role
from workers.ledger import open_database

group = typer.Typer(**STYLE)


@group.command(epilog="Example: `pictograph erase ann --yes`")
def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
    as_json: Json = False,
) -> None:
    """Erase USER: photos, tags, totals, thumbnails and what jobs did with each, for good.

    Later listings leave the user out. The objects in the source stay, and so do the name, by which listings know whom
    to leave out, and keys that a job's source or notes may quote. May be interrupted and asked for again.
    """
    with (
        ready(DATABASE, quiet=as_json) as settings,
        open_database(settings, "pictograph erase", Role.ERASER) as database,
    ):
        before = database.run(lambda connection: erasing.find(connection, user))
        done = before is not None and before.finished_at is not None
        if not (yes or done):
            _ask(user)
        found = before if done and before is not None else erasing.erase(database, user)
    if as_json:
        emit({**asdict(found), "already": done})
    else:
        for line in _receipt(found, already=done):
            say(line)
    if any(found.left.values()):
        fail(f"Rows of {user!r} are left; `pictograph doctor --deep` says what is wrong with the ledger.", 1)


def _ask(user: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(f"Nobody is there to confirm that {user!r} is to be erased; add --yes.")
    typer.confirm(f"Erase everything that is stored about {user!r}, for good?", abort=True, err=True)


def _receipt(found: Receipt, *, already: bool) -> Sequence[str]:
    when = "not completely" if found.finished_at is None else f"{found.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    left = ", ".join(f"{kind} {rows:,}" for kind, rows in found.left.items())
    return (
        f"{found.user}: erased {'already, ' if already else ''}{when}.",
        f"Deleted: photos {found.photos:,}, results {found.results:,}, thumbnails {found.thumbnails:,}, "
        f"photos of jobs {found.items:,}, verdicts {found.verdicts:,}; blanked: lines of results {found.lines:,}.",
        *(_rewritten(found),) * (found.outputs > 0),
        f"Left, counted afterwards: {left}.",
    )


def _rewritten(found: Receipt) -> str:
    return f"Results that were delivered before are written again without these lines: {found.outputs:,}."
