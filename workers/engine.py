"""The stream: claim ▶ fetch ▶ decode ▶ classify ▶ roll up ▶ merge, overlapped, each step bounded.

Theory of operation
    A message rings for one shard. While the stream works it claims further pending shards of the same model, so that
    the model never waits between shards. Threads do the steps; bounded queues between them are the back-pressure:

        feeder ──tasks──▶ fetchers (fetch, then a decode child) ──ready──▶ classifier ──results──▶ merger
                                     └────────── photos that failed ────────────────────▲

    The classifier is the caller's own thread. Each step ends when the step before it has ended, so a stream that runs
    dry and a stream that is told to stop end the same way; a stop only empties `tasks`.

Laws
1. A photo taken from `tasks` yields exactly one `PhotoResult`, unless the stream stops or its shard is lost.
2. A shard is finished by the merge that holds its last result; what is left at the end is handed back.
3. The first error that is no photo's fault ends the stream: `run` raises it once the leases are released. Where no
   service is to blame either, it counts against the shards in hand, and at the fifth time in a row fails their jobs.
"""

import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from pipeline.annotate import annotate
from pipeline.errors import ModelError, PhotoChanged, PictographError, ServiceDown, SkipPhoto
from pipeline.ledger import jobs, redrive, work
from pipeline.records import Code, ItemState, Lease, PhotoResult, PhotoTask
from pipeline.settings import Settings
from pipeline.store.catalogue import Registered
from pipeline.store.session import Database
from taxonomy.decide import Decision
from taxonomy.graph import Taxonomy
from taxonomy.rollup import Rollup
from workers.decode.pool import DecodePool
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.holdings import Holdings
from workers.merger import Merger
from workers.timing import Stopwatch

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_AHEAD = 2  # shards claimed beside the one in work
DRY_SECONDS = 0.25  # how often an empty queue is asked again
FLUSH_SECONDS = 0.03  # a batch that is not full waits this long for company
LONGEST_ERROR = 300  # characters of an error's text that are kept
LONGEST_SECONDS = 780.0  # then a stream stops as if told to: well before Celery's hard limit kills it in mid-work


class Model(Protocol):
    """What the engine needs of a model."""

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Leaf probabilities (photos, labels) of pixels (photos, side, side, 3); ModelError if they are not finite."""

    def verify(self) -> None:
        """ModelError unless the canaries come out as they were measured."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a worker process builds once and every stream of it uses."""

    settings: Settings
    database: Database
    heart: Heart
    fetcher: Fetcher
    decoders: DecodePool
    model: Model
    registered: Registered
    taxonomy: Taxonomy
    rollup: Rollup
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A decoded photo on its way to the model."""

    task: PhotoTask
    pixels: NDArray[np.uint8]
    sha256: bytes
    taken_at: datetime | None


class Aborted(Exception):
    """Another thread of the stream has failed; nothing more is passed on."""


class Stream:
    """One run of the engine, from a message to its acknowledgement."""

    def __init__(self, bench: Bench, stop: threading.Event) -> None:
        self.bench = bench
        self.watch = Stopwatch()
        self._stop = stop
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._failure: BaseException | None = None
        self._holdings = Holdings()
        photos = bench.settings.batch_photos
        self._tasks: queue.Queue[PhotoTask | None] = queue.Queue(2 * bench.settings.fetch_threads)
        self._ready: queue.Queue[_Ready | None] = queue.Queue(2 * photos)
        self._results: queue.Queue[PhotoResult | None] = queue.Queue(8 * photos)
        self._merger = Merger(
            database=bench.database,
            registered=bench.registered,
            holdings=self._holdings,
            patience_seconds=bench.settings.patience_seconds,
            outage_seconds=bench.settings.lease_seconds,
            watch=self.watch,
        )

    def run(self, shard_id: int) -> int:
        """Work on this shard and on whatever is pending after it; returns how many photos were merged.

        Raises:
            ServiceDown: the database is away; the leases are released.
            ModelError: the model is not to be trusted any more, nor is this process.
            Exception: what nobody thought of; it was counted against the shards in hand.
        """
        first = self._claim(lambda connection: work.SHARDS.claim(connection, shard_id, *self._lease))
        if first is None:
            return 0
        self.bench.heart.watch(self._holdings)
        try:
            self._flow(first)
        finally:
            self.bench.heart.watch(None)
            self._hand_back()
        if self._failure is not None:
            raise self._failure
        log.info("stream of %d photos: %s", self._merger.photos, self.watch)
        return self._merger.photos

    @property
    def _lease(self) -> tuple[str, float]:
        return self.bench.heart.worker_id, self.bench.settings.lease_seconds

    def _flow(self, first: Lease) -> None:
        fetchers = [self._thread(f"fetch-{n}", self._fetch) for n in range(self.bench.settings.fetch_threads)]
        feeder = self._thread("feed", lambda: self._feed(first))
        merging = self._thread("merge", lambda: self._merger.drain(self._results))
        closing = self._thread("close", lambda: self._close([feeder, *fetchers]))
        try:
            self._classify()
        except Aborted:
            pass  # the failure is kept, and raised by `run`
        except BaseException as exc:  # kept, and raised by `run` once the threads have ended
            self._fail(exc)
        closing.join()
        while merging.is_alive():  # also after a failure: what is done is merged
            try:
                self._results.put(None, timeout=DRY_SECONDS)
                break
            except queue.Full:
                continue
        merging.join()

    def _close(self, before: list[threading.Thread]) -> None:
        """Tell the fetchers that no task follows, and then the classifier that no photo follows."""
        feeder, *fetchers = before
        feeder.join()
        for _ in fetchers:
            self._offer(self._tasks, None)
        for fetcher in fetchers:
            fetcher.join()
        self._offer(self._ready, None)

    # ---- feeder

    def _feed(self, first: Lease) -> None:
        self._feed_shard(first)
        until = time.monotonic() + self.bench.settings.stream_seconds
        while not self._stopping:
            ahead = len(self._holdings) <= LOOK_AHEAD and time.monotonic() < until
            lease = self._claim_next() if ahead else None
            if lease is not None:
                self._feed_shard(lease)
            elif len(self._holdings) == 0:
                return
            else:
                self._holdings.wait(DRY_SECONDS)

    def _feed_shard(self, lease: Lease) -> None:
        self._holdings.add(lease, 0)  # so that it is handed back, should the next step fail
        with self.bench.database.transaction() as connection:
            jobs.start(connection, lease.job_id)
            photos = work.open_photos(connection, lease)
        self._holdings.add(lease, len(photos))
        if not photos:
            self._merger.finish(lease)
        for task in photos:
            if self._stopping:
                return
            self._offer(self._tasks, task)

    def _claim_next(self) -> Lease | None:
        model_id = self.bench.registered.model_id
        return self._claim(lambda connection: work.claim_next_shard(connection, model_id, *self._lease))

    def _claim(self, claim: Callable[[Connection], Lease | None]) -> Lease | None:
        return self.bench.database.run(claim)

    # ---- fetchers

    def _fetch(self) -> None:
        while (task := self._take(self._tasks)) is not None:
            if self._stopping or not self._holdings.holds(task.shard_id):
                continue
            began = self._holdings.begin(task.shard_id)
            if began is not None:
                self.bench.database.run(partial(work.mark_started, lease=began))
            outcome = self._prepare(task)
            if isinstance(outcome, _Ready):
                self._offer(self._ready, outcome)
            else:
                self._offer(self._results, outcome)

    def _prepare(self, task: PhotoTask) -> "_Ready | PhotoResult":
        try:
            with self.watch.timed("fetch"):
                data = self.bench.fetcher.fetch(task)
            with self.watch.timed("decode"):
                decoded = self.bench.decoders.decode(data)
        except SkipPhoto as exc:
            return _ended(task, ItemState.FAILED, exc.code, str(exc))
        except PhotoChanged as exc:
            return self._look_again(task, exc)
        except ServiceDown as exc:
            return _ended(task, ItemState.RETRY, Code.NONE, str(exc))
        return _Ready(task=task, pixels=decoded.pixels, sha256=hashlib.sha256(data).digest(), taken_at=decoded.taken_at)

    def _look_again(self, task: PhotoTask, changed: PhotoChanged) -> PhotoResult:
        """The bytes are not those that were listed: write down what is there now, and come back to it."""
        try:
            version = self.bench.fetcher.look(task)
        except SkipPhoto as exc:
            return _ended(task, ItemState.FAILED, exc.code, str(exc))
        except ServiceDown as exc:
            return _ended(task, ItemState.RETRY, Code.NONE, str(exc))
        self.bench.database.run(lambda connection: work.note_changed(connection, task, version))
        return _ended(task, ItemState.RETRY, Code.NONE, str(changed))

    # ---- classifier

    def _classify(self) -> None:
        batch: list[_Ready] = []
        while True:
            photo = self._next_ready(wait=not batch)
            if isinstance(photo, _Ready):
                batch.append(photo)
            if batch and (not isinstance(photo, _Ready) or len(batch) == self.bench.settings.batch_photos):
                for result in self._results_of(batch):
                    self._offer(self._results, result)
                batch = []
            if photo is None:
                return

    def _next_ready(self, *, wait: bool) -> "_Ready | bool | None":
        """The next decoded photo; None: no more will come; False: none in the time that a batch may wait."""
        if wait:
            return self._take(self._ready)
        try:
            return self._ready.get(timeout=FLUSH_SECONDS)
        except queue.Empty:
            return False

    def _results_of(self, batch: list[_Ready]) -> list[PhotoResult]:
        try:
            with self.watch.timed("classify"):
                probabilities = self.bench.model.predict(np.stack([photo.pixels for photo in batch]))
        except ModelError as exc:
            return self._one_by_one(batch, exc)
        with self.watch.timed("roll up"):
            masses = self.bench.rollup.masses(probabilities)
            notes = annotate(masses, self.bench.taxonomy, self.bench.decision, self.bench.registered.nodes)
        return [
            PhotoResult(
                task=photo.task,
                state=ItemState.SUCCEEDED,
                code=Code.ABSTAINED if note.headline is None else Code.TAGGED,
                annotation=note,
                sha256=photo.sha256,
                taken_at=photo.taken_at,
            )
            for photo, note in zip(batch, notes, strict=True)
        ]

    def _one_by_one(self, batch: list[_Ready], error: ModelError) -> list[PhotoResult]:
        """Find the photo that the model cannot take; a model that fails its canaries is not asked again."""
        self.bench.model.verify()
        if len(batch) == 1:
            return [_ended(batch[0].task, ItemState.FAILED, Code.MODEL_ERROR, str(error))]
        return [result for photo in batch for result in self._results_of([photo])]

    # ---- between the threads

    @property
    def _stopping(self) -> bool:
        return self._stop.is_set() or self._aborted or time.monotonic() > self._deadline

    @property
    def _aborted(self) -> bool:
        return self._failure is not None

    def _fail(self, exc: BaseException) -> None:
        if self._failure is None:
            self._failure = exc

    @property
    def _blameless(self) -> bool:
        """Whether the stream ended well, was told to stop, or met a service that is away."""
        told = self._stop.is_set() or not isinstance(self._failure, Exception)  # None, SystemExit
        return told or isinstance(self._failure, ServiceDown)

    def _thread(self, name: str, step: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                step()
            except Aborted:
                pass  # the failure is kept, and raised by `run`
            except BaseException as exc:  # kept, and raised by `run`
                self._fail(exc)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _offer(self, target: "queue.Queue[T]", item: T) -> None:
        while True:
            try:
                return target.put(item, timeout=DRY_SECONDS)
            except queue.Full:
                if self._aborted:
                    raise Aborted from None

    def _take(self, source: "queue.Queue[T]") -> T:
        while True:
            try:
                return source.get(timeout=DRY_SECONDS)
            except queue.Empty:
                if self._aborted:
                    raise Aborted from None

    def _hand_back(self) -> None:
        """Release what is left, so that another worker may have it at once; after a failure of ours, later."""
        leases = self._holdings.leases()
        if not leases:
            return
        blamed = [] if self._blameless else self._holdings.begun() or leases
        try:
            for lease in blamed:
                self._give_up_failing(lease)
            rest = [lease for lease in leases if lease not in blamed]
            self.bench.database.run(lambda connection: work.SHARDS.release(connection, rest))
        except PictographError as exc:
            log.warning("%d leases will have to expire: %s", len(leases), exc)
        self._holdings.drop([lease.work_id for lease in leases])

    def _give_up_failing(self, lease: Lease) -> None:
        error = _as_text(self._failure)
        failed = self.bench.database.run(lambda connection: redrive.give_up_failing(connection, lease, error))
        log.error("shard %d failed%s: %s", lease.work_id, ", and with it its job" if failed else "", error)


def _as_text(error: BaseException | None) -> str:
    """An error as one line that Postgres can hold."""
    words = f"{type(error).__name__}: {error}".replace("\0", "").encode(errors="backslashreplace").decode()
    return " ".join(words.split())[:LONGEST_ERROR].rstrip(".")


def _ended(task: PhotoTask, state: ItemState, code: Code, message: str) -> PhotoResult:
    return PhotoResult(task=task, state=state, code=code, message=message)
