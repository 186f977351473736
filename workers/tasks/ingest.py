"""The tasks of an ingest worker: shells around the listing and around deliveries. Needs neither torch nor children."""

import os
from functools import lru_cache

from celery import shared_task
from celery.signals import worker_process_init, worker_process_shutdown

from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.settings import Settings
from pipeline.store.roles import Role
from workers.deliver import DELIVER_SECONDS, deliver_one
from workers.drain import draining, listen
from workers.heart import Heart
from workers.ingest import list_range
from workers.ledger import open_database, worker_id
from workers.send import DELIVER, INGEST
from workers.tasks import checked_id


@lru_cache(maxsize=1)
def heart() -> Heart:
    """This process's heartbeat, and its database."""
    settings = Settings()
    database = open_database(settings, "pictograph ingest", Role.INGEST)
    return Heart(database, worker_id(), INGEST_QUEUE, settings.lease_seconds, process_id=os.getppid())


@worker_process_init.connect
def prepare(**_: object) -> None:
    """Say that this worker is here."""
    listen()
    heart().start()


@worker_process_shutdown.connect
def put_away(**_: object) -> None:
    """Take this worker off the list."""
    heart().stop()


@shared_task(name=INGEST)
def ingest(range_id: int) -> None:
    """List this key range, or as much of it as one task may."""
    heart().rung()
    list_range(Settings(), heart(), checked_id(range_id), draining)


@shared_task(name=DELIVER, time_limit=DELIVER_SECONDS)
def deliver(delivery_id: int) -> None:
    """Bring this delivery to where it is to go."""
    heart().rung()
    deliver_one(Settings(), heart(), checked_id(delivery_id), draining)
