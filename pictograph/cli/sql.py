"""``pictograph sql``: asking the views of schema ``tags``, as an analyst."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import make_url

from pictograph.cli.connect import own_ledger, ready
from pictograph.cli.console import STYLE, Json, emit, note
from pictograph.places import DATABASE
from pictograph.stack.wheels import postgres_binaries
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.asking import ask
from pipeline.store.roles import Role, session_options
from workers.ledger import open_database

group = typer.Typer(**STYLE)

WELCOME = r"You are pictograph_analyst, who only reads: \d lists the views, \d+ VIEW explains one, \df the functions."


@group.command(epilog="Example: `pictograph sql -c 'SELECT name, photos FROM category_total ORDER BY 2 DESC LIMIT 10'`")
def sql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="What goes on to psql, such as `-- --csv`.")
    ] = None,
    *,
    queries: Annotated[
        list[str] | None,
        typer.Option("-c", "--command", metavar="QUERY", help="A query, instead of a prompt; may be given again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Open psql on the tags, as an analyst who reads and changes nothing.

    Schema tags is on the search path; a query may take a minute. docs/sql.md has worked questions.
    """
    asked = queries or []
    if as_json and (len(asked) != 1 or arguments):
        raise ConfigurationError("--json is for one query: `pictograph sql --json -c QUERY`, without more arguments.")
    with ready(DATABASE, quiet=True) as settings:
        if as_json:
            _answer(settings, asked[0])
            return
        if not asked and not arguments:
            note(WELCOME)
        status = _run([*_command(asked), *(arguments or ())], settings)
    if status:
        raise typer.Exit(1)


def _answer(settings: Settings, query: str) -> None:
    with open_database(settings, "pictograph sql", Role.ANALYST) as database:
        for row in ask(database, query):
            emit(row)


def _command(queries: Sequence[str]) -> list[str]:
    """psql, for a prompt or for queries; what a person has set up for prompts is of no concern to a query."""
    program = str(_psql())
    if not queries:
        return [program]
    return [program, "--no-psqlrc", "--set=ON_ERROR_STOP=1", *(f"--command={query}" for query in queries)]


def _psql() -> Path:
    """The embedded server's own psql, or for other servers the one on the PATH."""
    found = None if own_ledger() else shutil.which("psql")
    if found is not None:
        return Path(found)
    try:
        return postgres_binaries() / "psql"
    except ConfigurationError as exc:
        raise ConfigurationError(
            "psql is not on the PATH; install PostgreSQL's client (Debian: postgresql-client)."
        ) from exc


def _run(command: Sequence[str], settings: Settings) -> int:
    """Run psql to its end. Ctrl-C is its own affair: it cancels a query and goes on."""
    if settings.database_url is None:
        raise ConfigurationError("Set PICTOGRAPH_DATABASE_URL, or start everything with `pictograph up`.")
    address, secrets = connection_of(settings.database_url.get_secret_value())
    environment = {**os.environ, **secrets, "PGAPPNAME": "pictograph sql"}
    with _deaf_to_interrupts():
        return subprocess.run([*command, "--dbname", address], env=environment, check=False).returncode


def connection_of(url: str) -> tuple[str, dict[str, str]]:
    """The address for psql to connect to as an analyst, without any password; that is in the variables.

    Other users of a machine can read a command's line, and not its environment.
    """
    parsed = make_url(url).set(drivername="postgresql")
    password = parsed.query.get("password", parsed.password)
    given = parsed.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} {session_options(Role.ANALYST)}".strip()
    query = {name: value for name, value in parsed.query.items() if name != "password"} | {"options": options}
    bare = parsed._replace(password=None, query=type(parsed.query)(query))
    # SQLAlchemy writes a space of the query as a plus sign, which libpq takes for one.
    place, _, asked = bare.render_as_string(hide_password=False).partition("?")
    return f"{place}?{asked.replace('+', '%20')}", {} if password is None else {"PGPASSWORD": str(password)}


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let an interrupt of the terminal pass this process by; a child begins with the default again."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
