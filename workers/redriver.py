"""The redriver: the loop around `pipeline.ledger.redrive`. Any number of them may run.

Each tick: expired leases end, lost messages are taken back, waiting photos return, jobs end, what there is room for is
published, schedules that are due are fired, and old jobs are tidied. The broker may be away or wiped at any time: its
epoch key tells, and the ledger is all there is.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import redis
from celery import Celery
from redis.exceptions import RedisError
from sqlalchemy import Connection

from pipeline.crashpoints import Point, reached
from pipeline.errors import PictographError, ServiceDown
from pipeline.ledger import control, delivery, ending, publish, redrive, roster, schedule, tidy
from pipeline.ledger.roster import REDRIVER, Sign
from pipeline.settings import Settings
from pipeline.store.roles import Role, act_as
from pipeline.store.session import Database
from workers.ledger import worker_id
from workers.send import ring

log = logging.getLogger(__name__)

EPOCH_KEY = "pictograph:epoch"
MOST_FIRINGS = 100  # in one tick; the rest is due at the next
MOST_TIDIED = 100  # jobs in one tick, likewise


@dataclass
class Redriver:
    """One redriver over one ledger and one broker."""

    settings: Settings
    database: Database
    app: Celery
    broker: redis.Redis
    _worker_id: str = field(default_factory=worker_id, init=False)
    _down: str = field(default="", init=False)
    _said: tuple[str, float] | None = field(default=None, init=False)  # the trouble on the list, and since when

    @classmethod
    def over(cls, settings: Settings, database: Database, app: Celery) -> "Redriver":
        """A redriver with a broker connection of its own."""
        url = app.conf.broker_url
        broker = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=3)
        return cls(settings, database, app, broker)

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop; trouble is logged once per change, never fatal."""
        while not stop.is_set():
            try:
                self.tick()
                self._note("")
            except PictographError as exc:
                self._note(str(exc))
            except Exception as exc:  # without a redriver nobody is rung for: no bug may stop it
                self._met(exc)
            self._sign()
            stop.wait(self.settings.tick_seconds)
        self._leave()

    def tick(self) -> None:
        """One look at the ledger.

        Raises:
            ServiceDown: the database or the broker is away; what was decided before stands.
        """
        self._end_what_is_over()
        if self._broker_was_wiped():
            taken_back = self.database.run(lambda c: publish.unqueue(c, 0) + delivery.unqueue(c, 0))
            log.info("the broker is new or was wiped: %d messages will be sent again", taken_back)
            self._mark_broker()  # last: whoever is killed before it leaves this to the next tick
        self._publish()
        self._fire()
        self._tidy()

    def _end_what_is_over(self) -> None:
        shard_photos = self.settings.shard_photos
        expired = self.database.run(lambda c: redrive.expire_shards(c, shard_photos, self.settings.lease_seconds))
        ranges = self.database.run(lambda c: redrive.expire_ranges(c, self.settings.lease_seconds))
        deliveries = self.database.run(delivery.expire)
        age = self.settings.stale_seconds
        stale = self.database.run(lambda c: publish.unqueue(c, age) + delivery.unqueue(c, age))
        due = self.database.run(lambda c: redrive.gather_retries(c, shard_photos))
        finished = self.database.run(ending.finish_jobs) + self._keep_orders()
        self.database.run(roster.forget_dead_workers)
        ended = {"ranges expired": ranges, "deliveries expired": deliveries, "stale": stale, "retried": due}
        for what, count in {**expired, **ended}.items():
            if count:
                log.info("%s: %d", what, count)
        for job_id in finished:
            log.info("job %d has ended", job_id)

    def _keep_orders(self) -> list[int]:
        """What operators ordered: hours that jobs keep, shares that may fail, jobs to be stopped; those that ended."""
        lifted, closed = self.database.run(control.keep_hours)
        for what, job_ids in {"goes on": lifted, "rests: its window is closed": closed}.items():
            for job_id in job_ids:
                log.info("job %d %s", job_id, what)
        for job_id in self.database.run(ending.fail_hopeless):
            log.warning("job %d is given up: too many of its photos failed", job_id)
        return ending.wind_up_all(self.database)

    def _broker_was_wiped(self) -> bool:
        with _broker_trouble():
            return self.broker.get(EPOCH_KEY) is None

    def _mark_broker(self) -> None:
        with _broker_trouble():
            self.broker.set(EPOCH_KEY, "1")

    def _publish(self) -> None:
        bells = self.database.run(lambda c: publish.publishable(c) + delivery.publishable(c))
        for n, bell in enumerate(bells):
            reached(Point.PUBLISH_AFTER_COMMIT)
            try:
                ring(self.app, bell.kind, bell.queue, bell.work_id)
            except Exception:  # whatever it was: nobody has been rung for the rest
                self.database.run(partial(publish.take_back, bells=bells[n:]))
                self.database.run(partial(delivery.take_back, bells=bells[n:]))
                raise
            reached(Point.PUBLISH_AFTER_SEND)

    def _fire(self) -> None:
        """Fire the schedules that are due, each in a transaction of its own, as who may submit jobs."""
        if not self.database.run(schedule.is_due):
            return
        for _ in range(MOST_FIRINGS):
            fired = self.database.run(_fire_as_ingest)
            if fired is None:
                return
            what = f"job {fired.job_id}" if fired.job_id else fired.note
            log.info("schedule %s, due at %s: %s", fired.schedule, fired.due_at.isoformat(), what)

    def _tidy(self) -> None:
        """Delete rows of jobs that ended long ago: so many in one tick and no more, as who may write the ledger."""
        days, room = self.settings.keep_days, tidy.ROWS_AT_ONCE
        if not self.database.run(lambda c: tidy.is_due(c, days)):
            return
        for _ in range(MOST_TIDIED):
            tidied = self.database.run(partial(_tidy_as_ingest, keep_days=days, rows=room))
            if tidied is None:
                return
            if tidied.done:
                log.info("job %d ended more than %d days ago and is tidied", tidied.job_id, days)
            room -= tidied.rows
            if room <= 0:
                return

    def _note(self, down: str) -> None:
        if down and not self._down:
            log.warning("%s", down)
        elif self._down and not down:
            log.info("everything answers again")
        self._down = down

    def _met(self, exc: Exception) -> None:
        down = f"The redriver met {type(exc).__name__}, which nobody thought of; its log says where. It goes on."
        if down != self._down:
            log.exception("%s", down)
        self._down = down

    def _sign(self) -> None:
        """Say on the list of workers that this redriver ticks, and what it waits for: at each change, and in rhythm."""
        now = time.monotonic()
        seconds = self.settings.lease_seconds
        if self._said is not None:
            trouble, moment = self._said
            if trouble == self._down and now < moment + roster.beat_seconds(seconds):
                return
        sign = Sign(
            worker_id=self._worker_id,
            queue=REDRIVER,
            host=socket.gethostname(),
            process_id=os.getpid(),
            progressed=not self._down,
            trouble=self._down or None,
        )
        try:
            self.database.run(lambda connection: roster.note(connection, sign, seconds))
        except PictographError as exc:
            log.debug("not on the list: %s", exc)
        except Exception:
            log.exception("not on the list, for a reason that nobody thought of")
        else:
            self._said = self._down, now

    def _leave(self) -> None:
        try:
            self.database.run(lambda connection: roster.forget_worker(connection, self._worker_id))
        except PictographError as exc:
            log.info("leaving without a word: %s", exc)


def _fire_as_ingest(connection: Connection) -> schedule.Firing | None:
    act_as(connection, Role.INGEST)
    return schedule.fire_next(connection)


def _tidy_as_ingest(connection: Connection, keep_days: int, rows: int) -> tidy.Tidied | None:
    act_as(connection, Role.INGEST)
    return tidy.tidy_next(connection, keep_days, rows)


@contextmanager
def _broker_trouble() -> Iterator[None]:
    try:
        yield
    except RedisError as exc:
        raise ServiceDown("The broker does not answer; workers go on with what they hold.") from exc
