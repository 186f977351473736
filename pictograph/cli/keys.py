"""``pictograph keys``: who may ask the API, for whose photos, and what."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy import Connection

from api.auth import BUNDLES, OPEN, TENANT_WIDE, Scope
from pictograph.cli.connect import writing
from pictograph.cli.console import STYLE, Json, emit, note, out, plain, say
from pictograph.cli.control import By, whoami
from pictograph.cli.moments import seconds
from pipeline.errors import ConfigurationError
from pipeline.ledger import users
from pipeline.sources.source import storable
from pipeline.store import keys as store
from pipeline.store.keys import Listed

group = typer.Typer(**STYLE)
keys = typer.Typer(help="Keys of the API: who may ask, for whose photos, and what.", **STYLE)
group.add_typer(keys, name="keys")

LONGEST_NAME = 100  # characters
SCOPES = f"Bundles: {', '.join(BUNDLES)}. Scopes: {', '.join(Scope)}."


class Purpose(StrEnum):
    """What the API signs."""

    SESSION = "session"
    PAGE_TOKEN = "page_token"  # noqa: S105 - the name of one


@keys.command(epilog="Example: `pictograph keys add 'holiday site' --user ann --expires 90d`")
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is for; people see it beside what is done by it.")
    ],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help=f"What it may do; again for more. {SCOPES} Default: user, or reader for all.",
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="For whose photos alone. Default: for everybody's.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="After how long it expires: 12h, 90d, 8w. Default: never."),
    ] = None,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it: this once, as only its SHA-256 is stored."""
    scopes = chosen(scope or ("reader" if user is None else "user",), bound=user is not None)
    check_name(name)
    lasts = None if expires is None else seconds(expires)
    with writing() as connection:
        new = _is_new(connection, user)
        made, secret = store.add(connection, name, user, sorted(scopes), by=by or whoami(), seconds=lasts)
    if as_json:
        emit({"key": secret, **asdict(made)})
        return
    whose = "everybody's photos" if user is None else f"the photos of {user}" + (", who has none yet" if new else "")
    note(f"Key {made.key_id} for {whose}; it expires {_when(made.expires_at)}. It is shown this once:")
    say(secret)
    note("Send it as `Authorization: Bearer KEY`, or sign in with it at /sign-in.")


@keys.command(name="list", epilog="Example: `pictograph keys list --all`")
def list_keys(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are expired or revoked.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Keys, newest first, without what opens anything."""
    with writing() as connection:
        found = store.listed(connection, limit, everything=everything)
    if as_json:
        for key in found:
            emit(asdict(key))
        return
    table = Table(
        "key", "name", "whose photos", "may", "state", "expires", "used", "by", box=None, padding=(0, 2, 0, 0)
    )
    for key in found:
        whose = "everybody's" if key.user is None else plain(key.user)
        dates = (_when(key.expires_at), _when(key.used_at))
        table.add_row(str(key.key_id), plain(key.name), whose, _may(key), key.state, *dates, plain(key.created_by))
    out.print(table)
    if len(found) == limit:
        note(f"There may be more: `pictograph keys list --limit {2 * limit}` shows them.")


@keys.command(epilog="Example: `pictograph keys revoke 3`")
def revoke(
    key_id: Annotated[int, typer.Argument(metavar="KEY", min=1, help="The key's number, as `keys list` shows it.")],
    *,
    as_json: Json = False,
) -> None:
    """Let a key open nothing any more, nor the sessions that were begun with it; servers know within 5 seconds."""
    with writing() as connection:
        key, changed = store.revoke(connection, key_id)
    if as_json:
        emit({**asdict(key), "changed": changed})
    elif changed:
        say(f"Key {key.key_id} ({key.name}) is revoked.")
    else:
        say(f"Key {key.key_id} ({key.name}) opened nothing before this: it is {key.state}.")


@keys.command(epilog="Example: `pictograph keys renew session`")
def renew(
    purpose: Annotated[
        Purpose, typer.Argument(metavar="PURPOSE", help="session: everybody signs in anew. page_token.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Sign sessions, or page tokens, by another secret: those given before are void; servers know within a minute."""
    with writing() as connection:
        store.renew_secret(connection, purpose)
    if as_json:
        emit({"purpose": purpose.value})
    else:
        say(f"Every {purpose.value.replace('_', ' ')} given before this is void.")


def chosen(named: Sequence[str], *, bound: bool) -> frozenset[Scope]:
    """The scopes that bundles and scopes of these names are together, for a key that is bound to a user or not.

    Raises:
        ConfigurationError: there is no such name, or users cannot have it.
    """
    found = frozenset[Scope]()
    for name in named:
        if name not in BUNDLES and name not in set(Scope):
            raise ConfigurationError(f"There is no scope {name!r}. {SCOPES}")
        found |= BUNDLES[name] if name in BUNDLES else {Scope(name)}
    beyond = found & TENANT_WIDE if bound else frozenset[Scope]()
    if beyond:
        raise ConfigurationError(
            f"{', '.join(sorted(beyond))} is about everybody's photos; leave out --user, or ask for less, such as "
            "--scope user."
        )
    return found


def _is_new(connection: Connection, user: str | None) -> bool:
    """Whether the ledger does not know the user yet; ConfigurationError where there will never be one of that name."""
    if user is None:
        return False
    if not user.strip() or not storable(user):
        raise ConfigurationError(f"No user can be called {user!r}.")
    known = users.standings(connection, [user]).get(user)
    if known is not None and known.erased:
        raise ConfigurationError(f"{user} is erased; nothing is stored of them any more.")
    return known is None


def check_name(name: str) -> None:
    """ConfigurationError for a name that nobody could tell from others, or that is taken by the server itself."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigurationError(f"A key's name has 1 to {LONGEST_NAME} printable characters; say what it is for.")
    if name.strip().lower() == OPEN.name:
        raise ConfigurationError(f"{name!r} is what is done without a key; choose another name.")


def _may(key: Listed) -> str:
    """The bundle of exactly these scopes, or each of them."""
    scopes = set(key.scopes)
    return next((bundle for bundle, held in BUNDLES.items() if held == scopes), " ".join(key.scopes))


def _when(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
