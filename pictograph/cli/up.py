"""``pictograph up``: everything at once; ``pictograph api``: the pages alone."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from api.main import serve
from pictograph.cli.connect import own_ledger, ready, set_up
from pictograph.cli.console import STYLE, Json, emit, log_to_stderr, note, say
from pictograph.places import DATABASE, host_and_port
from pictograph.stack import Service
from pictograph.supervisor import Supervisor
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings

group = typer.Typer(**STYLE)

LOOK_SECONDS = 1.0  # how soon workers are taken over from another process that has ended


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
    with ready(quiet=as_json) as settings:
        place = set_up(settings)
        with Supervisor(settings) as supervisor:
            if not supervisor.start_if_free():
                note(f"Workers run already for {settings.home}; should they end, this process starts its own.")
            with kept_up(supervisor), until_interrupted():
                serve(settings, lambda address: _addresses(settings, place, address, as_json=as_json))


@contextmanager
def kept_up(supervisor: Supervisor) -> Iterator[None]:
    """While the block runs, see to it that workers do: should another process that runs them end, ours are started.

    The block is interrupted, as by Ctrl-C, when they cannot run.

    Raises:
        ConfigurationError: why they cannot.
    """
    over, failures = threading.Event(), list[ConfigurationError]()
    thread = threading.Thread(target=_look_after, args=(supervisor, over, failures), name="kept up", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def _look_after(supervisor: Supervisor, over: threading.Event, failures: list[ConfigurationError]) -> None:
    while not over.wait(LOOK_SECONDS):
        try:
            supervisor.start_if_free()
        except ConfigurationError as exc:
            failures.append(exc)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return


def _addresses(settings: Settings, database: str, address: str, *, as_json: bool) -> None:
    broker = host_and_port(settings.broker_url)
    if as_json:
        addresses = {"api": address, "s3": settings.s3_endpoint_url, "database": database, "broker": broker}
        emit({**addresses, "logs": str(settings.home / "logs")})
        return
    say(f"Pages and API   {address}{_asks(settings)}")
    say(f"S3              {settings.s3_endpoint_url}")
    say(f"Postgres        {database}")
    say(f"Broker          {broker}")
    if own_ledger():
        say(f"Data folder     {settings.home} (credentials.json, logs/)")
    say("Tag photos from another terminal: `pictograph tag FOLDER`. Ctrl-C stops everything.")


@group.command(epilog="Example: `PICTOGRAPH_API_PORT=0 pictograph api`")
def api(*, as_json: Json = False) -> None:
    """Run the API and the pages."""
    log_to_stderr()
    with ready(DATABASE | {Service.S3}, quiet=as_json) as settings, until_interrupted():
        serve(
            settings,
            lambda address: emit({"api": address}) if as_json else say(f"Pages and API   {address}{_asks(settings)}"),
        )


def _asks(settings: Settings) -> str:
    """What is to be said of the API's door, where it is not open."""
    return "" if settings.api_open else "  (wants a key: `pictograph keys add`)"
