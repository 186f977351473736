"""All of the product's workers in one process, which goes on until the jobs have ended or it is killed at a point.

Celery itself is left out, so that each step comes at a known place: the real messages are taken from the real broker,
the task's function is called, and the message is acknowledged when it has returned, as late acknowledgement means.
"""

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from queue import Empty
from typing import TypeVar
from urllib.parse import urlsplit

from celery import Celery
from kombu import Connection as Connected
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from pipeline import crashpoints
from pipeline.crashpoints import Point, reached
from pipeline.ledger.erase import erase
from pipeline.ledger.publish import INGEST_QUEUE, annotate_queue
from pipeline.records import ItemState, JobState, Lease, WorkState
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from pipeline.store.catalogue import registered_model
from pipeline.store.roles import Role
from pipeline.store.session import Database
from tests.chaos import album
from tests.chaos.model import TARGET, ColourModel
from tests.chaos.proxy import Fault, FaultProxy, Kind, Speaks
from workers.app import create_app
from workers.decode.pool import DecodePool
from workers.engine.stream import Stream
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.ingest import list_range
from workers.redriver import Redriver
from workers.tasks import checked_id
from workers.tuning import Tuning
from workers.workbench import Bench

T = TypeVar("T")

MODEL = "small"
QUEUE = annotate_queue(MODEL)
ROUNDS = 60  # of ticks; a case takes about ten
WAIT_SECONDS = 60.0
TUNING = Tuning(
    model=MODEL,
    runtime="colours",
    precision="fp32",
    device="cpu",
    cores=2,
    batch_photos=2,
    decode_processes=1,
    fetch_threads=2,
    fetch_bytes=1_000_000,
    fetch_photos=8,
    fetch_again_photos=4,
    shards_ahead=2,
)


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What one process shall do."""

    environment: dict[str, str]  # the settings
    folder: str  # for its output and its events
    keeper: dict[str, str]  # access of those who may write photos
    broker_admin_url: str  # of those who may take a message without waiting for one
    point: str = ""  # at which it ends; empty: at none
    nth: int = 0  # passing of it
    until: str = "ended"  # or "listed"
    erase: str = ""  # a user to be erased
    erase_after: int = 0  # messages for the annotate worker


class History:
    """What happened, a line each, written at once: a killed process has said all that it did."""

    def __init__(self, folder: str) -> None:
        self._file = os.open(f"{folder}/events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, event: str, **facts: object) -> None:
        """Append an event."""
        line = {"event": event, "pid": os.getpid(), "at": round(time.monotonic(), 4), **facts}
        os.write(self._file, (json.dumps(line) + "\n").encode())


class Witness(Database):
    """A database that notes which leases this process believes to hold."""

    def __init__(self, url: str, role: Role, history: History) -> None:
        super().__init__(url, f"sweep {os.getpid()}", connections=6, role=role)
        self._history = history

    def run(self, work: Callable[[Connection], T]) -> T:
        """As ever."""
        answer = super().run(work)
        if isinstance(answer, Lease):
            self._history.note("claim", by=self.role, id=answer.work_id, epoch=answer.epoch)
        return answer


class Executioner:
    """Ends this process at the nth passing of a point."""

    def __init__(self, orders: Orders, history: History, strike: Callable[[], None]) -> None:
        self._orders = orders
        self._history = history
        self._strike = strike
        self._passed: Counter[Point] = Counter()
        self._guard = threading.Lock()

    def __call__(self, point: Point) -> None:
        """The process is there."""
        with self._guard:
            if point is Point.HEARTBEAT_BEFORE and not self._passed[Point.CLASSIFY_MID_BATCH]:
                return  # beats count from the moment when there is work in hand
            self._passed[point] += 1
            self._history.note("point", point=point.value, nth=self._passed[point])
            if (point.value, self._passed[point]) == (self._orders.point, self._orders.nth):
                self._strike()


class LateModel(ColourModel):
    """Decides nothing, so that a heart may beat while the work is in hand."""

    def predict(self, pixels):
        """The process is killed meanwhile."""
        threading.Event().wait(WAIT_SECONDS)
        return super().predict(pixels)


class Shift:
    """One process's work."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.settings = Settings()
        self.history = History(orders.folder)
        self.history.note("start")
        self.proxy = self._proxy() if orders.point == Point.MERGE_COMMIT_SENT else None
        self.database = self._database(Role.WORKER)
        self.stop = threading.Event()
        self.messages = 0  # answered by the annotate worker
        self.disturbed = False
        crashpoints.arm(Executioner(orders, self.history, self._lose_commit if self.proxy else _die))

    # ---- what it works with

    def _database(self, role: Role) -> Witness:
        url = make_url(self.settings.database_url.get_secret_value())
        if self.proxy:
            url = url.set(host="127.0.0.1", port=self.proxy.port)
        return Witness(url.render_as_string(hide_password=False), role, self.history)

    def _proxy(self) -> FaultProxy:
        place = urlsplit(self.settings.database_url.get_secret_value())
        proxy = FaultProxy((place.hostname, place.port), Speaks.POSTGRES)
        proxy.start()
        return proxy

    @cached_property
    def app(self) -> Celery:
        """The broker's messages."""
        return create_app(self.settings)

    @cached_property
    def lister(self) -> Heart:
        """The heart of an ingest worker."""
        return self._heart(self._database(Role.INGEST), "lister", INGEST_QUEUE)

    @cached_property
    def bench(self) -> Bench:
        """An annotate worker's bench."""
        model = LateModel() if self.orders.point == Point.HEARTBEAT_BEFORE else ColourModel()
        decoders = DecodePool(TUNING.decode_processes, TARGET)
        self.history.note("children", pids=decoders.pids)
        fingerprint = MODEL.encode().ljust(32, b"\0")
        return Bench(
            settings=self.settings,
            tuning=TUNING,
            database=self.database,
            heart=self._heart(self.database, "tagger", QUEUE),
            fetcher=Fetcher(S3Access.of(self.settings), self.settings.max_photo_bytes),
            decoders=decoders,
            classifier=model,
            registered=self.database.run(lambda c: registered_model(c, MODEL, fingerprint)),
            taxonomy=model.taxonomy,
        )

    def _heart(self, database: Database, name: str, queue: str) -> Heart:
        heart = Heart(database, f"{name}:{os.getpid()}", queue, self.settings.lease_seconds)
        heart.start()
        return heart

    # ---- what it does

    def work(self) -> None:
        """Everything that there is to do, then leave in good order."""
        redriver = Redriver.over(self.settings, self.database, self.app)
        hearts = [self.lister, self.bench.heart] if self.orders.until == "ended" else [self.lister]
        self._erase()
        for _ in range(ROUNDS):
            redriver.tick()
            if self._over():
                break
            if not self._deliver():
                self._let_time_pass()
        else:
            raise TimeoutError(f"The jobs have not ended after {ROUNDS} rounds.")
        for heart in hearts:
            heart.stop()
        if self.orders.until == "ended":
            self.bench.decoders.close()
        self.history.note("end")

    def _over(self) -> bool:
        if self.orders.until == "listed":
            return self._listed()
        return not self._count("core.job", f"state < {JobState.SUCCEEDED}")

    def _listed(self) -> bool:
        return not self._count("core.list_range", f"state <> {WorkState.DONE}")

    def _deliver(self) -> int:
        """Answer every message that waits; how many."""
        answered = self._answer_all(INGEST_QUEUE, self._list)
        if self._listed() and self.orders.until == "ended":
            self._disturb()
            answered += self._answer_all(QUEUE, self._annotate)
        return answered

    def _disturb(self) -> None:
        if not self.disturbed:
            album.disturb(S3Access(**self.orders.keeper).client())
            self.disturbed = True

    def _answer_all(self, queue: str, task: Callable[[int], None]) -> int:
        answered = 0
        with Connected(self.orders.broker_admin_url) as connection, connection.SimpleQueue(queue) as waiting:
            while True:
                try:
                    message = waiting.get_nowait()
                except Empty:
                    return answered
                (work_id,), _, _ = message.payload
                task(checked_id(work_id))
                message.ack()
                reached(Point.ACK_AFTER)
                answered += 1

    def _list(self, range_id: int) -> None:
        list_range(self.settings, self.lister, range_id, self.stop)

    def _annotate(self, shard_id: int) -> None:
        Stream(self.bench, self.stop).run(shard_id)
        self.messages += 1
        self._erase()

    def _erase(self) -> None:
        if self.orders.erase and self.messages == self.orders.erase_after:
            erase(self._database(Role.ERASER), self.orders.erase, batch_photos=1)

    def _let_time_pass(self) -> None:
        """What waits need not wait any longer."""
        with self.database.transaction() as connection:
            connection.execute(
                text(f"UPDATE core.job_item SET next_attempt_at = now() WHERE state = {ItemState.RETRY}")
            )

    def _count(self, table: str, where: str) -> int:
        with self.database.transaction() as connection:
            return connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one()

    # ---- how it ends

    def _lose_commit(self) -> None:
        """From here the merge sends its COMMIT, which happens; the process ends before it can learn of it."""
        self.history.note("closed before", items=self._count("core.job_item", f"state >= {ItemState.SUCCEEDED}"))
        self.proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=1, only="INTO verdict"))
        threading.Thread(target=self._die_once_bitten, daemon=True).start()

    def _die_once_bitten(self) -> None:
        while not self.proxy.bites[Kind.DROP_COMMIT_REPLY.value]:
            threading.Event().wait(0.001)
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


logging.basicConfig(level=logging.INFO, format="%(process)d %(threadName)s %(name)s %(message)s")
