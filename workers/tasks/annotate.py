"""The annotate task: a shell around the engine's stream. Only annotate workers import it."""

import logging
import os
from functools import lru_cache

from celery import shared_task
from celery.signals import worker_process_init, worker_process_shutdown

from pipeline.errors import BackendDown, PictographError
from pipeline.settings import Settings
from workers.drain import draining, listen
from workers.engine.stream import Stream
from workers.send import ANNOTATE
from workers.tasks import checked_id
from workers.workbench import Bench, build_bench

log = logging.getLogger(__name__)

RESTART_PAUSE_SECONDS = 5.0
BROKEN = 1  # exit status; the parent starts another process


@lru_cache(maxsize=1)
def bench() -> Bench:
    """This process's bench, built at its start."""
    return build_bench(Settings(), stop=draining, process_id=os.getppid())


@worker_process_init.connect
def prepare(**_: object) -> None:
    """Load the model before the first message, not while it waits.

    Nobody rings for a worker that is not on the list. So a process that cannot get there ends, for the parent to start
    another one; where the model does not work, that one waits until it may be tried again.
    """
    listen()
    try:
        bench()
    except BackendDown as exc:
        raise SystemExit(BROKEN) from exc  # Celery logs an Exception here, and goes on without a model
    except PictographError as exc:
        log.warning("this worker cannot start yet, the next try is in %.0f s: %s", RESTART_PAUSE_SECONDS, exc)
        draining.wait(RESTART_PAUSE_SECONDS)
        raise SystemExit(BROKEN) from exc
    except Exception as exc:
        log.exception("this worker cannot start; the next try is in %.0f s", RESTART_PAUSE_SECONDS)
        draining.wait(RESTART_PAUSE_SECONDS)
        raise SystemExit(BROKEN) from exc


@worker_process_shutdown.connect
def put_away(**_: object) -> None:
    """End the decode children and take this worker off the list."""
    if bench.cache_info().currsize:  # it may never have come about
        bench().close()


@shared_task(name=ANNOTATE)
def annotate(shard_id: int) -> None:
    """Work on this shard and on what is pending after it.

    A model that does not work ends the process; the message is acknowledged, and the parent starts another one.
    """
    mine = bench()
    mine.heart.rung()
    try:
        Stream(mine, draining).run(checked_id(shard_id))
    except BackendDown as exc:
        mine.guard.broke(exc)
        raise SystemExit(BROKEN) from exc
