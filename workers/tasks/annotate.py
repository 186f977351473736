"""The annotate task: a shell around the engine's stream. Imports torch; only annotate workers import it."""

from functools import lru_cache

from celery import shared_task
from celery.signals import worker_process_init, worker_process_shutdown

from pipeline.settings import Settings
from workers.bench import build_bench
from workers.drain import draining, listen
from workers.engine import Bench, Stream
from workers.send import ANNOTATE
from workers.tasks import checked_id


@lru_cache(maxsize=1)
def bench() -> Bench:
    """This process's bench, built at its start."""
    return build_bench(Settings())


@worker_process_init.connect
def prepare(**_: object) -> None:
    """Load the model before the first message, not while it waits."""
    listen()
    bench()


@worker_process_shutdown.connect
def put_away(**_: object) -> None:
    """End the decode children and take this worker off the list."""
    if bench.cache_info().currsize:  # it may never have come about
        bench().heart.stop()
        bench().decoders.close()


@shared_task(name=ANNOTATE)
def annotate(shard_id: int) -> None:
    """Work on this shard and on what is pending after it."""
    Stream(bench(), draining).run(checked_id(shard_id))
