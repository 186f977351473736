"""``pictograph export``: everything that is held about a user."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, emit, say
from pictograph.places import DATABASE
from pipeline.errors import ConfigurationError
from pipeline.ledger.export import everything
from pipeline.store.roles import Role
from workers.ledger import open_database

group = typer.Typer(**STYLE)


@group.command(epilog="Example: `pictograph export ann --to ann.jsonl`")
def export(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name.")],
    *,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new file, readable by you alone; unless given, here.")
    ] = None,
) -> None:
    """Everything that is held about USER, as JSON lines.

    These are the user, each photo with its tags, jobs and thumbnails, and the totals: what is stored, also what a
    policy keeps from being shown. The photos themselves are where they were.
    """
    if to is None:
        _tell(user, emit)
        return
    try:
        say(f"{to}: {_write_new(user, to):,} lines.")
    except FileExistsError as exc:
        raise ConfigurationError(f"{to} is there already; name a new file.") from exc
    except OSError as exc:
        raise ConfigurationError(f"{to} cannot be written: {exc.strerror}.") from exc


def _write_new(user: str, path: Path) -> int:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        try:
            return _tell(user, lambda fact: file.write(json.dumps(fact) + "\n"))
        except BaseException:
            path.unlink()  # half of it would look like all of it
            raise


def _tell(user: str, one: Callable[[dict[str, Any]], object]) -> int:
    """Give each fact to `one`; how many there are."""
    count = 0
    with (
        ready(DATABASE, quiet=True) as settings,
        open_database(settings, "pictograph export", Role.API) as database,
        database.transaction() as connection,
    ):
        for fact in everything(connection, user):
            one(fact)
            count += 1
    return count
