"""``pictograph users``: who owns photos, and whether others may see them."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from pictograph.cli.connect import reading, writing
from pictograph.cli.console import STYLE, Json, emit, out, plain, say
from pipeline.ledger import users as ledger
from pipeline.ledger.users import User
from pipeline.store.roles import Role

group = typer.Typer(**STYLE)
users = typer.Typer(help="Who owns photos, and whether they consent to have them tagged and shown.", **STYLE)
group.add_typer(users, name="users")


class Answer(StrEnum):
    """What a user says."""

    YES = "yes"
    NO = "no"
    UNASKED = "unasked"


_ANSWERS = {Answer.YES: True, Answer.NO: False, Answer.UNASKED: None}


@users.command(name="list", epilog="Example: `pictograph users list --limit 100`")
def list_users(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    after: Annotated[str, typer.Option(help="Begin after this name.")] = "",
    as_json: Json = False,
) -> None:
    """Users by name, with what they answered."""
    with reading() as connection:
        found = ledger.listed(connection, limit, after)
    if as_json:
        for user in found:
            emit(asdict(user))
        return
    table = Table("user", "consent", "known since", box=None, padding=(0, 2, 0, 0))
    for user in found:
        table.add_row(plain(user.user), _said(user), f"{user.created_at:%Y-%m-%d}")
    out.print(table)
    if len(found) == limit:
        say(f"There may be more: `pictograph users list --after '{found[-1].user}'` goes on.")


@users.command(epilog="Example: `pictograph users consent ann yes`")
def consent(
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name; it need not have photos yet.")],
    answer: Annotated[Answer, typer.Argument(help="unasked takes an answer back.")],
    *,
    as_json: Json = False,
) -> None:
    """Write down whether USER consents. Only photos of those who do are shown to other users.

    And only theirs are met by jobs with `--filter consent`. After no, they are shown to nobody else from that moment
    on; what is stored stays until `pictograph erase` takes it away. A manifest may say otherwise line by line.
    """
    with writing(Role.INGEST) as connection:
        found = ledger.set_consent(connection, user, _ANSWERS[answer])
    if as_json:
        emit(asdict(found))
    else:
        say(f"{found.user}: consent {_said(found)}.")


def _said(user: User) -> str:
    if user.erased:
        return "erased"
    return next(answer.value for answer, consent in _ANSWERS.items() if consent is user.consent)
