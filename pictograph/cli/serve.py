"""Running: everything at once, or one process of it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from api.main import serve
from pictograph.cli.annotate import own_ledger
from pictograph.cli.console import Json, emit, log_to_stderr, note, ready, say
from pictograph.places import DATABASE
from pictograph.stack import Service
from pictograph.supervisor import Supervisor
from pipeline.ledger.redrive import INGEST_QUEUE, annotate_queue
from pipeline.settings import Settings
from pipeline.store.migrate import migrate
from workers.app import create_app
from workers.ledger import open_database, register
from workers.models import registry
from workers.redriver import Redriver

group = typer.Typer()


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C is how this ends, and no error."""
    try:
        yield
    except KeyboardInterrupt:
        note("Stopping ...")


#: Workers have nothing to tell each other: the ledger knows.
QUIET_TOGETHER = ("--without-gossip", "--without-mingle", "-O", "fair")


class Role(StrEnum):
    """What a worker does."""

    INGEST = "ingest"
    ANNOTATE = "annotate"


@group.command(epilog="Example: `PICTOGRAPH_API_PORT=8080 pictograph up`")
def up(*, as_json: Json = False) -> None:
    """Start everything on this machine: servers, workers, redriver, API. Ctrl-C stops all of it."""
    with ready(quiet=as_json) as settings, open_database(settings, "pictograph up") as database:
        migrate(database)
        register(database, settings.model)
        with Supervisor(settings) as supervisor:
            if not supervisor.start_if_free():
                note(f"Workers run already for {settings.home}; this process only adds an API.")

            def started(address: str) -> None:
                if as_json:
                    emit({"api": address, "s3": settings.s3_endpoint_url, "logs": str(settings.home / "logs")})
                else:
                    _addresses(settings, address)

            with until_interrupted():
                serve(settings, started)


def _addresses(settings: Settings, address: str) -> None:
    say(f"Pages and API   {address}")
    say(f"S3              {settings.s3_endpoint_url}")
    if own_ledger(Settings.read()):
        say(f"Data folder     {settings.home} (credentials.json, logs/)")
    say("Another terminal: `pictograph tag FOLDER`. Ctrl-C stops everything.")


@group.command(epilog="Example: `pictograph worker annotate --model efficientnet-lite0`")
def worker(
    role: Annotated[Role, typer.Argument(help="ingest lists sources, annotate tags photos.")] = Role.ANNOTATE,
    *,
    model: Annotated[str | None, typer.Option(help="The model to serve; default PICTOGRAPH_MODEL.")] = None,
) -> None:
    """Run one worker until it is told to stop; SIGTERM ends it at the next photo."""
    log_to_stderr()
    with ready() as found:
        settings = found if model is None else found.model_copy(update={"model": model})
        queue = INGEST_QUEUE if role is Role.INGEST else annotate_queue(registry.get(settings.model).name)
        os.environ.update(settings.environment())  # the spawned child reads its settings anew
        app = create_app(settings, f"workers.tasks.{role.value}")
        app.worker_main(
            ["worker", "--queues", queue, "--hostname", f"{role.value}@%h", "--loglevel", "INFO", *QUIET_TOGETHER]
        )


@group.command(epilog="Example: `pictograph redriver`")
def redriver() -> None:
    """Run one redriver: it publishes work, notices the dead, ends jobs. Several may run."""
    log_to_stderr()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with ready(DATABASE | {Service.BROKER}) as settings, open_database(settings, "pictograph redriver") as database:
        Redriver.over(settings, database, create_app(settings)).run(stop)


@group.command(epilog="Example: `PICTOGRAPH_API_PORT=0 pictograph api`")
def api() -> None:
    """Run the API and the pages."""
    log_to_stderr()
    with ready(DATABASE | {Service.S3}) as settings, until_interrupted():
        serve(settings, lambda address: say(f"Pages and API: {address}"))
