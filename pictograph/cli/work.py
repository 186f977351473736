"""``pictograph worker`` and ``pictograph redriver``: the processes that do the work, one each."""

import logging
import os
import signal
import threading
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from pictograph.cli.connect import ready
from pictograph.cli.console import STYLE, Json, emit, fail, log_to_stderr
from pictograph.places import DATABASE
from pictograph.stack import Service
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger.publish import INGEST_QUEUE, annotate_queue
from pipeline.settings import Settings
from pipeline.store.roles import Role as LedgerRole
from workers.app import create_app, work
from workers.drain import set_on
from workers.ledger import open_database, registered
from workers.models import registry, weights
from workers.redriver import Redriver

log = logging.getLogger(__name__)

group = typer.Typer(**STYLE)


class Role(StrEnum):
    """What a worker does."""

    INGEST = "ingest"
    ANNOTATE = "annotate"


@group.command(epilog="Example: `pictograph worker annotate --model efficientnet-lite0`")
def worker(
    role: Annotated[Role, typer.Argument(help="ingest lists sources, annotate tags photos.")] = Role.ANNOTATE,
    *,
    model: Annotated[str | None, typer.Option(help="The model to serve; default PICTOGRAPH_MODEL.")] = None,
    as_json: Json = False,
) -> None:
    """Run one worker process.

    SIGTERM ends it at the next photo: what is done is stored, the rest is left to others. The exit status is 0 then, 2
    where it is set up wrongly, and 1 after any other end.
    """
    log_to_stderr()
    if role is Role.ANNOTATE and find_spec("torch") is None:
        raise ConfigurationError("torch is not installed here; pip install 'pictograph[worker]'.")
    with ready(quiet=as_json) as found:
        settings = found if model is None else found.model_copy(update={"model": model})
        queue = INGEST_QUEUE if role is Role.INGEST else _queue_of_model(settings)
        os.environ.update(settings.environment())  # the spawned child reads its settings anew
        # torch's threads wait for each other by spinning, which takes the cores from decoding and from themselves:
        # on two busy cores classifying took five to eight times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # glibc gives each thread a heap of its own, and photos of all sizes leave holes in each of them: with two heaps
        # for all, a worker has grown half as much after 10,000 photos, and is as quick.
        os.environ.setdefault("MALLOC_ARENA_MAX", "2")
        if as_json:
            emit({"role": role.value, "queue": queue, "model": settings.model})
        app = create_app(settings, f"workers.tasks.{role.value}")
        status = work(app, role.value, queue)
    if status:
        fail(f"The {role.value} worker ended because of an error; its log says of which, above.", status)


def _queue_of_model(settings: Settings) -> str:
    """The queue of the configured model, which is found out here to be one that can be served.

    A child that met these errors would end and be replaced for ever. Whether the weights are what they should be, and
    the model does what it should, is found out there: it may change while we run.

    Raises:
        ConfigurationError: there is no such model, the ledger does not know it, or its weights are missing.
    """
    spec = registry.chosen(settings)
    weights.locate(spec, settings)
    try:
        with open_database(settings, "pictograph annotate", LedgerRole.WORKER) as database:
            registered(database, spec)
    except ServiceDown as exc:
        log.warning("whether %s is registered is found out later: %s", spec.name, exc)
    return annotate_queue(spec.name)


@group.command(epilog="Example: `pictograph redriver`")
def redriver(*, as_json: Json = False) -> None:
    """Run one redriver: it hands out work, notices the dead, ends jobs.

    Several may run; each does what the others leave.
    """
    log_to_stderr()
    stop = threading.Event()
    set_on(stop, signal.SIGTERM, signal.SIGINT)
    with (
        ready(DATABASE | {Service.BROKER}, quiet=as_json) as settings,
        open_database(settings, "pictograph redriver", LedgerRole.WORKER) as database,
    ):
        if as_json:
            emit({"role": "redriver", "database": database.place, "tick_seconds": settings.tick_seconds})
        Redriver.over(settings, database, create_app(settings)).run(stop)
