"""Serving: the API with its real database, object store and decode children, until a signal ends it."""

import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from api.app import create_app
from api.warming import warm
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.objects import Objects
from pipeline.sources.s3 import S3Access
from pipeline.store.roles import Role
from pipeline.store.session import Database
from workers.decode.pool import DecodePool

CONNECTIONS = 16  # to the database; threads beyond these wait
STATEMENT_SECONDS = 2.0  # nobody waits longer for a page; a slow query must not hold a connection
DECODE_PROCESSES = 2
DRAIN_SECONDS = 10


def serve(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve on `settings.api_host` and `api_port`; `on_ready` gets the address, real port included, once it answers.

    Blocks until SIGINT or SIGTERM, and then lets open requests finish. ConfigurationError where the address is taken.
    """
    if settings.database_url is None:
        raise ConfigurationError("No database is set; set PICTOGRAPH_DATABASE_URL, or use `pictograph up`.")
    url = settings.database_url.get_secret_value()
    with (
        _listening(settings.api_host, settings.api_port) as listener,
        Database(url, "pictograph api", CONNECTIONS, role=Role.API, statement_seconds=STATEMENT_SECONDS) as database,
        DecodePool(DECODE_PROCESSES, max_photo_bytes=settings.max_photo_bytes) as decoder,
    ):
        app = create_app(settings, database, Objects(S3Access.of(settings), Allowed.of(settings)), decoder)
        warm(app.state.services)
        _leave_alone()
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        ready = partial(on_ready, address(settings.api_host, listener))
        _Server(config, ready, app.state.services.watching.close).run(sockets=[listener])


def _leave_alone() -> None:
    """Keep the garbage collector from what is there by now and stays: going through it stops everybody for 0.1 s."""
    gc.collect()
    gc.freeze()


def address(host: str, listener: socket.socket) -> str:
    """The URL to call."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - to be called, not bound to
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio sends small packets at once only where it knows that they are TCP's. Else each
    # answer of two packets waits 40 ms for an acknowledgement that the client delays.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{host}:{port} cannot be listened on ({error.strerror}); set PICTOGRAPH_API_PORT to another one, or to 0."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Says when it answers; returns on a signal, so that the caller can close what it opened."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would go on by itself, and let everything else finish."""
        self._on_stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT or SIGTERM. (Uvicorn's own way raises the signal again afterwards, and so dies of it.)"""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
