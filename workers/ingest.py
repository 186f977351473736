"""Listing a source into the ledger: at most so many pages per task, each a transaction with its checkpoint."""

import logging
import threading
from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from pipeline.crashpoints import Point, reached
from pipeline.errors import ConfigurationError, LeaseLost, ServiceDown
from pipeline.ledger import decide, ending, events, jobs, redrive, selection, users, work
from pipeline.ledger.jobs import Job
from pipeline.ledger.listing import finish_range, record_page
from pipeline.records import Lease, Page
from pipeline.settings import Settings
from pipeline.sources.allowed import Allowed
from pipeline.sources.events import EventEntry
from pipeline.sources.opening import open_source
from pipeline.sources.rules import Rules, apply_rules
from pipeline.sources.s3 import S3Access
from pipeline.sources.source import Interval
from pipeline.sources.user_rule import UserRule
from pipeline.store.session import Database
from workers.deciding import decide_pages
from workers.heart import Heart
from workers.holdings import Holdings
from workers.selecting import select_pages
from workers.troubles import STORE

log = logging.getLogger(__name__)

PAGES_PER_TASK = 50  # then the range goes back, so that one huge bucket does not hold a worker for hours
OUTAGE_PAUSE_SECONDS = 5.0
STUCK_SECONDS = 600.0  # for one page: a manifest's has a thousand objects to ask for, one by one


def list_range(settings: Settings, heart: Heart, range_id: int, stop: threading.Event) -> None:
    """Claim a key range and list it, until it is done, 50 pages are read, or `stop` is set.

    The heart is the process's own: it renews the lease while a page is read.
    """
    database = heart.database
    lease = database.run(lambda c: work.RANGES.claim(c, range_id, heart.worker_id, settings.lease_seconds))
    if lease is None:
        return
    reached(Point.CLAIM_AFTER_COMMIT)
    holdings = Holdings()
    holdings.add(lease)
    heart.watch(holdings, work.RANGES, STUCK_SECONDS)
    try:
        _list(settings, heart, holdings, lease, stop)
    finally:
        heart.watch(None)


def _list(settings: Settings, heart: Heart, holdings: Holdings, lease: Lease, stop: threading.Event) -> None:
    database = heart.database
    with database.transaction() as connection:
        jobs.start(connection, lease.job_id)
        job = jobs.find(connection, lease.job_id)
    try:
        pages = {decide.KIND: decide_pages, selection.KIND: select_pages}
        finished = pages.get(job.kind, _list_pages)(settings, heart, job, lease, holdings, stop)
        if not finished:
            database.run(lambda c: work.RANGES.release(c, [lease]))
    except ConfigurationError as exc:
        error = str(exc).encode(errors="backslashreplace").decode()  # it may quote a name that Postgres cannot hold
        log.warning("job %d cannot be listed: %s", job.job_id, error)
        _fail(database, lease, error)
    except ServiceDown as exc:
        log.warning("job %d waits: %s", job.job_id, exc)
        heart.troubles.met(STORE, str(exc))
        database.run(lambda c: work.RANGES.release(c, [lease], OUTAGE_PAUSE_SECONDS))
    except LeaseLost as exc:
        log.warning("%s", exc)
    except Exception as exc:  # a defect: its lease must not expire as if nothing had been, or it would be met for ever
        log.exception("job %d cannot be listed, for a reason that nobody thought of", job.job_id)
        error = f"{type(exc).__name__}: {exc}".replace("\0", "").encode(errors="backslashreplace").decode()
        database.run(lambda c: redrive.give_up_listing(c, lease, error))


def _fail(database: Database, lease: Lease, error: str) -> None:
    """End the job, if its listing is still ours: who has it now may see more than we did."""

    def fail(connection: Connection) -> None:
        work.RANGES.confirm(connection, lease)
        ending.fail(connection, lease.job_id, error)

    try:
        database.run(fail)
    except LeaseLost as exc:
        log.warning("%s", exc)


def _list_pages(
    settings: Settings, heart: Heart, job: Job, lease: Lease, holdings: Holdings, stop: threading.Event
) -> bool:
    """Whether the range is finished."""
    database = heart.database
    rule = UserRule.parse(job.user_rule, job.fixed_user)
    told = partial(_entries, database, job.job_id)
    source = open_source(job.kind, job.source, rule, S3Access.of(settings), Allowed.of(settings), told)
    with database.transaction() as connection:
        cursor = work.cursor_of(connection, lease)
    for _ in range(PAGES_PER_TASK):
        if stop.is_set() or not database.run(lambda c: jobs.goes_on(c, job.job_id)):
            return False
        met = source.page(cursor, settings.page_keys)
        holdings.moved()
        heart.troubles.over(STORE)
        page, covered = _chosen(database, job, met), source.covered(cursor, met)
        if page.removed:
            database.run(partial(events.subtract, lease=lease, removed=page.removed))
        database.run(partial(_write, settings, job, lease, page, covered))
        reached(Point.LIST_AFTER_COMMIT)
        if page.last:
            # A transaction of its own: a crash before it lists one more page, an empty one, and comes back here.
            database.run(partial(finish_range, job=job, lease=lease))
            return True
        cursor = page.cursor
    return False


def _entries(database: Database, job_id: int, after: int, limit: int) -> Sequence[EventEntry]:
    return database.run(lambda c: events.entries(c, job_id, after, limit))


def _chosen(database: Database, job: Job, page: Page) -> Page:
    """The page without what the job's rules leave out; where there are none, nobody is asked about anybody."""
    if job.rules == Rules():
        return page
    owners = sorted({ref.user for ref in page.refs})
    return apply_rules(page, job.rules, database.run(lambda c: users.standings(c, owners)))


def _write(
    settings: Settings, job: Job, lease: Lease, page: Page, covered: Interval | None, connection: Connection
) -> None:
    work.RANGES.renew(connection, [lease], settings.lease_seconds)
    record_page(connection, job, lease, page, covered, settings.shard_photos)
