"""From claimed photos to decoded ones: the threads that fetch, and the threads that decode.

A fetching thread has one request under way at a time, a decoding thread one child of the pool. What is fetched waits as
bytes, within two budgets; what is decoded waits as a row of a batch. A photo that gets no further is a result at once.
Between the two `workers.engine.recognise` takes out what is known already.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from pipeline.errors import PhotoChanged, ServiceDown, SkipPhoto
from pipeline.ledger import work
from pipeline.records import Code, ItemState, Lease, PhotoResult, PhotoTask
from pipeline.store.session import Database
from workers.decode.pool import DecodePool
from workers.decode.records import Decoded
from workers.engine.flow import Budget, Channel
from workers.engine.outages import Patience
from workers.engine.slots import Photo, Slots
from workers.fetch import Fetcher
from workers.holdings import Holdings
from workers.troubles import STORE, Troubles

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A photo's bytes on their way to a decoder."""

    task: PhotoTask
    data: bytes
    sha256: bytes


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What the fetching and the decoding threads of a stream share."""

    database: Database
    patience: Patience
    fetcher: Fetcher
    decoders: DecodePool
    holdings: Holdings
    bytes_in_hand: Budget  # between the store and the decoder
    photos_in_hand: Budget  # likewise: more would cost memory, and gain nothing
    slots: Slots
    results: Channel[list[PhotoResult]]
    troubles: Troubles = field(default_factory=Troubles)  # what this process waits for
    stopping: Callable[[], bool]  # photos that are not decoded yet are passed over
    fetched: Channel[Fetched] = field(default_factory=Channel)
    fresh: Channel[Fetched] = field(default_factory=Channel)  # of them, those to be decoded

    def fetch(self, tasks: Channel[PhotoTask]) -> None:
        """One thread's life: fetch until no more is asked for."""
        for task in tasks:
            if self.stopping() or not self.holdings.holds(task.shard_id):
                continue
            self.photos_in_hand.acquire(1)
            self.bytes_in_hand.acquire(task.size)
            data = self._tried(task, partial(self._fetch, task))
            if data is None:
                self.let_go(task)
            else:
                began = self.holdings.begin(task.shard_id)
                if began is not None:  # before a decoder or the model gets to see anything of it
                    self._mark_started(began)
                self.fetched.put(Fetched(task=task, data=data, sha256=hashlib.sha256(data).digest()))

    def _fetch(self, task: PhotoTask) -> bytes:
        try:
            data = self.fetcher.fetch(task)
        except ServiceDown as exc:
            self.troubles.met(STORE, str(exc))
            raise
        self.troubles.over(STORE)
        return data

    def decode(self) -> None:
        """One thread's life: decode until no more is to be."""
        for photo in self.fresh:
            if not self.stopping():
                self._decode(photo)
            self.let_go(photo.task)

    def abort(self) -> None:
        """No thread is to wait for another one any more."""
        self.bytes_in_hand.abort()
        self.photos_in_hand.abort()

    def _decode(self, photo: Fetched) -> None:
        def put(decoded: Decoded) -> None:
            row = self.slots.take()
            row.pixels[...] = decoded.pixels
            self.slots.fill(row, Photo(task=photo.task, sha256=photo.sha256, taken_at=decoded.taken_at))

        self._tried(photo.task, lambda: self.decoders.decode_for(photo.data, put), photo.sha256)

    def let_go(self, task: PhotoTask) -> None:
        """The photo's bytes are done with."""
        self.bytes_in_hand.release(task.size)
        self.photos_in_hand.release(1)

    def _tried(self, task: PhotoTask, step: Callable[[], T], sha256: bytes | None = None) -> T | None:
        """What the step returns; None where the photo ends here, as a result, with the hash of its bytes if known."""
        try:
            return step()
        except SkipPhoto as exc:
            self._end(task, ItemState.FAILED, exc.code, exc, sha256)
        except PhotoChanged as exc:
            self._look_again(task, exc)
        except ServiceDown as exc:
            self._end(task, ItemState.RETRY, Code.NONE, exc, sha256)
        return None

    def _look_again(self, task: PhotoTask, changed: PhotoChanged) -> None:
        """The bytes are not those that were listed: write down what is there now, and come back to it."""
        version = self._tried(task, lambda: self.fetcher.look(task))
        if version is None:
            return
        self._ask(lambda connection: work.note_changed(connection, task, version))
        self._end(task, ItemState.RETRY, Code.NONE, changed)

    def _mark_started(self, lease: Lease) -> None:
        self._ask(lambda connection: work.mark_started(connection, lease))

    def _ask(self, question: Callable[[Connection], None]) -> None:
        self.patience.outlast(lambda: self.database.run(question), "a photo waits")

    def _end(
        self, task: PhotoTask, state: ItemState, code: Code, reason: Exception, sha256: bytes | None = None
    ) -> None:
        self.results.put([PhotoResult(task=task, state=state, code=code, sha256=sha256, message=str(reason))])
