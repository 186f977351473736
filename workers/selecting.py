"""Ledger jobs in an ingest worker: pages of the ledger's own photos, each a transaction with its checkpoint."""

import threading
from functools import partial

from sqlalchemy import Connection

from pipeline.crashpoints import Point, reached
from pipeline.ledger import jobs, work
from pipeline.ledger.jobs import Job
from pipeline.ledger.listing import finish_range
from pipeline.ledger.selection import Selected, record_selected
from pipeline.records import Lease
from pipeline.settings import Settings
from workers.heart import Heart
from workers.holdings import Holdings

PAGES_PER_TASK = 50  # then the range goes back, as a listing does


def select_pages(
    settings: Settings, heart: Heart, job: Job, lease: Lease, holdings: Holdings, stop: threading.Event
) -> bool:
    """Select photos until the range is finished (whether it is), 50 pages are done, or `stop` is set."""
    database = heart.database
    with database.transaction() as connection:
        cursor = work.cursor_of(connection, lease)
    for _ in range(PAGES_PER_TASK):
        if stop.is_set() or not database.run(lambda c: jobs.goes_on(c, job.job_id)):
            return False
        step = database.run(partial(_page, settings, job, lease, cursor))
        holdings.moved()
        reached(Point.LIST_AFTER_COMMIT)
        if step.last:
            database.run(partial(finish_range, job=job, lease=lease))
            return True
        cursor = step.cursor
    return False


def _page(settings: Settings, job: Job, lease: Lease, cursor: str | None, connection: Connection) -> Selected:
    work.RANGES.renew(connection, [lease], settings.lease_seconds)
    return record_selected(connection, job, lease, cursor, settings.page_keys, settings.shard_photos)
