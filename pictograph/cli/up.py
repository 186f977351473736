"""``pictograph up``: everything at once; ``pictograph api``: the pages alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from api.main import serve
from pictograph.cli.connect import own_ledger, ready
from pictograph.cli.console import STYLE, Json, emit, log_to_stderr, note, say
from pictograph.places import DATABASE
from pictograph.stack import Service
from pictograph.supervisor import Supervisor
from pipeline.settings import Settings
from pipeline.store.migrate import migrate
from workers.ledger import open_database, register

group = typer.Typer(**STYLE)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C is how this ends, and no error."""
    try:
        yield
    except KeyboardInterrupt:
        note("Stopping ...")


@group.command(epilog="Example: `PICTOGRAPH_API_PORT=8080 pictograph up`")
def up(*, as_json: Json = False) -> None:
    """Start everything on this machine: servers, workers, redriver, API.

    Ctrl-C stops all of it; what is unfinished goes on at the next start.
    """
    with ready(quiet=as_json) as settings, open_database(settings, "pictograph up") as database:
        migrate(database)
        register(database, settings.model)
        with Supervisor(settings) as supervisor:
            if not supervisor.start_if_free():
                note(f"Workers run already for {settings.home}; this process only adds an API.")
            with until_interrupted():
                serve(settings, lambda address: _addresses(settings, address, as_json=as_json))


def _addresses(settings: Settings, address: str, *, as_json: bool) -> None:
    if as_json:
        emit({"api": address, "s3": settings.s3_endpoint_url, "logs": str(settings.home / "logs")})
        return
    say(f"Pages and API   {address}")
    say(f"S3              {settings.s3_endpoint_url}")
    if own_ledger():
        say(f"Data folder     {settings.home} (credentials.json, logs/)")
    say("Tag photos from another terminal: `pictograph tag FOLDER`. Ctrl-C stops everything.")


@group.command(epilog="Example: `PICTOGRAPH_API_PORT=0 pictograph api`")
def api(*, as_json: Json = False) -> None:
    """Run the API and the pages."""
    log_to_stderr()
    with ready(DATABASE | {Service.S3}, quiet=as_json) as settings, until_interrupted():
        serve(settings, lambda address: emit({"api": address}) if as_json else say(f"Pages and API   {address}"))
