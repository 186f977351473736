"""What becomes of a job's results and notices, from outside: waiting for the first try of each, and telling of it."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pipeline.errors import ServiceDown
from pipeline.ledger import delivery, roster
from pipeline.ledger.delivery import Delivery
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.records import WorkState
from pipeline.store.session import Database

LOOK_SECONDS = 0.2
LONELY_SECONDS = 15.0  # without any worker for so long, nobody is waited for


def wait(database: Database, job_id: int) -> list[Delivery]:
    """The deliveries of a job that has ended, once each was brought or has failed for the first time.

    Those that failed are tried again without us. The database may be away for a while.
    """
    since = time.monotonic()
    while True:
        try:
            with database.transaction() as connection:
                found = delivery.of_job(connection, job_id)
                if roster.living(connection, INGEST_QUEUE):
                    since = time.monotonic()
        except ServiceDown:
            found = None
        if found is not None and (not _expected(found) or time.monotonic() - since > LONELY_SECONDS):
            return found
        time.sleep(LOOK_SECONDS)


def _expected(found: list[Delivery]) -> bool:
    """Whether something is under way; notices wait for results, and results that failed are not waited for."""
    results = [each for each in found if each.kind == "results"]
    if any(_open(each) and each.error for each in results):
        found = results
    return any(_open(each) and not each.error for each in found)


def _open(found: Delivery) -> bool:
    return found.state not in (WorkState.DONE, WorkState.CANCELLED)


def facts(found: Delivery) -> dict[str, Any]:
    """A delivery for machines."""
    return {**asdict(found), "state": found.condition.replace(" ", "_")}


def sentences(found: list[Delivery]) -> Iterator[str]:
    """Deliveries for people."""
    for each in found:
        yield f"{each.named}: {each.condition}{_more(each)}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _more(found: Delivery) -> str:
    if found.state is WorkState.DONE:
        lines = (found.facts or {}).get("lines")
        return f" at {found.delivered_at:%Y-%m-%d %H:%M:%S} UTC" + (f", {lines:,} lines" if lines is not None else "")
    if found.error and found.next_attempt_at and found.state is not WorkState.CANCELLED:
        return f" at {found.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC; tried {_times(found.attempts)}: {found.error}"
    return f"; {found.error}" if found.error else ""
