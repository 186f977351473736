"""One delivery: claimed, brought, finished. What fails is tried again later; whose id is the same at every try."""

import json
import logging
import threading
import time
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline import sinks
from pipeline.crashpoints import Point, reached
from pipeline.errors import LeaseLost, PictographError
from pipeline.ledger import delivery, jobs, results
from pipeline.ledger.delivery import DELIVERIES, Delivery
from pipeline.ledger.results import Written
from pipeline.ledger.targets import check_allowed, secret_of, target_of
from pipeline.records import Lease
from pipeline.settings import Settings
from workers import webhook
from workers.heart import Heart
from workers.holdings import Holdings

log = logging.getLogger(__name__)

DELIVER_SECONDS = 6 * 3600  # the hard limit of one delivery: some hundred million lines
STUCK_SECONDS = 300.0  # for one page of lines and one part of an upload, with its retries


class Stopped(Exception):
    """This process was told to stop in the middle."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A delivery in hand."""

    settings: Settings
    heart: Heart
    holdings: Holdings
    stop: threading.Event

    def still_ours(self, lease: Lease) -> None:
        """Called after each step: raises Stopped, or LeaseLost if somebody else has it."""
        self.holdings.moved()
        if self.stop.is_set():
            raise Stopped
        if not self.holdings.holds(lease.work_id):
            raise LeaseLost(f"Delivery {lease.work_id} is held by another worker now.")


def deliver_one(settings: Settings, heart: Heart, delivery_id: int, stop: threading.Event) -> None:
    """Claim this delivery and bring it; does nothing if it is done, held, or not due."""
    database = heart.database
    lease = database.run(lambda c: DELIVERIES.claim(c, delivery_id, heart.worker_id, settings.lease_seconds))
    if lease is None:
        return
    holdings = Holdings()
    holdings.add(lease)
    heart.watch(holdings, DELIVERIES, STUCK_SECONDS)
    try:
        _deliver(Errand(settings=settings, heart=heart, holdings=holdings, stop=stop), lease)
    finally:
        heart.watch(None)


def _deliver(errand: Errand, lease: Lease) -> None:
    database = errand.heart.database
    try:
        facts = _bring(errand, lease)
        reached(Point.DELIVER_BEFORE_COMMIT)
        database.run(lambda c: delivery.finish(c, lease, facts))
        log.info("delivery %d of job %d is done", lease.work_id, lease.job_id)
    except Stopped:
        database.run(lambda c: delivery.give_back(c, lease))
    except LeaseLost as exc:
        log.warning("%s", exc)
    except PictographError as exc:
        _postpone(errand, lease, str(exc))
    except Exception as exc:  # a defect: it is tried again as often as an outage would be, and then given up
        log.exception("delivery %d cannot be brought, for a reason that nobody thought of", lease.work_id)
        _postpone(errand, lease, f"{type(exc).__name__}: {exc}")


def _postpone(errand: Errand, lease: Lease, error: str) -> None:
    try:
        over = errand.heart.database.run(lambda c: delivery.postpone(c, lease, error))
    except LeaseLost as exc:
        log.warning("%s", exc)
        return
    log.warning("delivery %d of job %d %s: %s", lease.work_id, lease.job_id, "is given up" if over else "waits", error)


def _bring(errand: Errand, lease: Lease) -> dict[str, object]:
    """Bring it; returns what is to be remembered."""
    with errand.heart.database.transaction() as connection:
        order = delivery.find(connection, lease.work_id)
    return _notify(errand, order) if order.kind == "webhook" else _write_results(errand, lease, order)


def _write_results(errand: Errand, lease: Lease, order: Delivery) -> dict[str, object]:
    form = order.format or "jsonl"
    target = target_of(order.target, form, order.job_id)
    check_allowed(errand.settings, target)
    written = Written()
    with errand.heart.database.transaction() as connection:
        results.one_snapshot(connection)
        job = jobs.find(connection, order.job_id)
        results.check_kept(job)
        with sinks.writing_to(errand.settings, target.bucket, target.results) as sink:
            for data in results.spell(results.lines(connection, job), form, written):
                sink.write(data)
                errand.still_ours(lease)
        said = results.summary(connection, job, target.results_uri, form, written)
    with sinks.writing_to(errand.settings, target.bucket, target.summary) as sink:
        sink.write(json.dumps(said, ensure_ascii=False, indent=2).encode() + b"\n")
    return {**written.facts(), "results": target.results_uri}


def _notify(errand: Errand, order: Delivery) -> dict[str, object]:
    with errand.heart.database.transaction() as connection:
        body = notice(connection, order)
    key = secret_of(errand.settings)
    status = webhook.post(order.target, body, key=key, event_id=order.event_id, timestamp=int(time.time()))
    return {"status": status}


def notice(connection: Connection, order: Delivery) -> bytes:
    """What is told when a job has ended."""
    job = jobs.find(connection, order.job_id)
    outputs = [
        {"results": target_of(each.target, each.format or "jsonl", each.job_id).results_uri, "state": each.condition}
        | {name: value for name, value in (each.facts or {}).items() if name in ("lines", "sha256")}
        for each in delivery.of_job(connection, order.job_id)
        if each.kind == "results"
    ]
    facts = {"event_id": order.event_id, **results.outcome(job), "outputs": outputs}
    ended = facts["finished_at"]
    return json.dumps({"type": "job.ended", "timestamp": ended, "data": facts}, ensure_ascii=False).encode()
