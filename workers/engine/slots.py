"""Decoded photos on their way to the model: rows of a fixed ring of batch buffers, filled by many threads.

Theory of operation
    Who has a decoded photo takes a row, copies the pixels into it, and says whose they are (`fill`). A batch whose last
    row is filled goes to the model, and its buffer comes back when the model is done with it. There are no more pixels
    in memory than the ring holds: who finds no row free waits.

Laws
1. A row is taken for a photo that is decoded, never for one that may yet hang: a batch waits for copies only.
2. Rows are taken in order, and every row that was taken is filled: a batch has no gaps.
3. A batch that is not full goes once no photo has come for a while and the model asks, or when no more will come.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.records import PhotoTask
from workers.decode.records import Pixels
from workers.engine.flow import Aborted

FLUSH_SECONDS = 0.03  # a batch that is not full waits so long for company


@dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """What is known of a decoded photo beside its pixels."""

    task: PhotoTask
    sha256: bytes  # of the bytes that were read
    taken_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Photos for the model, which reads them in place. Recycle it afterwards."""

    photos: list[Photo]
    pixels: Pixels  # [photos, size, size, 3]
    buffer: Pixels  # all of the memory


@dataclass(eq=False)
class _Filling:
    """A buffer that is being filled."""

    buffer: Pixels
    rows: int  # of the buffer that are used
    taken: int = 0  # of them, the first ones
    photos: dict[int, Photo] = field(default_factory=dict)  # by row, once it is filled
    sealed: bool = False  # no more rows are taken

    @property
    def has_room(self) -> bool:
        return self.taken < self.rows and not self.sealed

    @property
    def complete(self) -> bool:
        return len(self.photos) == self.taken and not self.has_room


@dataclass(frozen=True, eq=False)
class Row:
    """A photo's place in a batch."""

    pixels: Pixels  # [size, size, 3], to be written
    index: int
    batch: _Filling


class Slots:
    """The ring. `size` tells how many rows of a buffer to use: the model may want fewer from some time on."""

    def __init__(self, buffers: list[Pixels], size: Callable[[], int]) -> None:
        self._size = size
        self._idle = list(buffers)
        self._filling: list[_Filling] = []  # oldest first
        self._ready: list[_Filling] = []
        self._filled_at = time.monotonic()
        self._ended = self._aborted = False
        #: Taken by itself, not through its conditions, which take it in Python code: an interrupt there would keep it.
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)  # a row may be free
        self._news = threading.Condition(self._lock)  # a batch may be ready, or has begun to fill

    def take(self) -> Row:
        """A row to write to; waits for one. Aborted where there will be none."""
        with self._lock:
            while (batch := self._with_room()) is None:
                if self._aborted:
                    raise Aborted
                self._room.wait()
            index = batch.taken
            batch.taken += 1
        return Row(batch.buffer[index], index, batch)

    def fill(self, row: Row, photo: Photo) -> None:
        """The row's pixels are written."""
        with self._lock:
            row.batch.photos[row.index] = photo
            self._filled_at = time.monotonic()
            self._pass_on(row.batch)
            if len(row.batch.photos) == 1:
                self._news.notify()  # from now on somebody has to look at the clock

    def end(self) -> None:
        """No more photos will come; every row that was taken is filled."""
        with self._lock:
            self._ended = True
            self._news.notify()

    def abort(self) -> None:
        """Nobody is to wait any more."""
        with self._lock:
            self._ended = self._aborted = True
            self._room.notify_all()
            self._news.notify()

    def next(self, *, wait: bool) -> Batch | None:
        """The next batch; None where, without waiting, none is full, and else only where no more will come."""
        with self._lock:
            while True:
                if self._ended:
                    self._seal()
                if self._ready:
                    return _batch(self._ready.pop(0))
                if self._ended or not wait:
                    return None
                self._await_news()

    def recycle(self, batch: Batch) -> None:
        """The model is done with the batch's memory."""
        with self._lock:
            self._idle.append(batch.buffer)
            self._room.notify(len(batch.buffer))

    def _await_news(self) -> None:
        """Until a batch is ready; one that waits for too long is sealed. The lock is held."""
        oldest = next((batch for batch in self._filling if batch.photos and not batch.sealed), None)
        if oldest is None:
            self._news.wait()
            return
        left = self._filled_at + FLUSH_SECONDS - time.monotonic()
        if left > 0:
            self._news.wait(left)
        else:
            self._seal()

    def _seal(self) -> None:
        for batch in list(self._filling):
            if batch.photos:
                batch.sealed = True
                self._pass_on(batch)

    def _with_room(self) -> _Filling | None:
        """The oldest batch with a free row, if need be a new one."""
        for batch in self._filling:
            if batch.has_room:
                return batch
        if not self._idle:
            return None
        buffer = self._idle.pop()
        batch = _Filling(buffer, min(self._size(), len(buffer)))
        self._filling.append(batch)
        return batch

    def _pass_on(self, batch: _Filling) -> None:
        """Where nothing more will be written to it."""
        if batch.complete:
            self._filling.remove(batch)
            self._ready.append(batch)
            self._news.notify()


def _batch(filled: _Filling) -> Batch:
    photos = [filled.photos[row] for row in range(filled.taken)]
    return Batch(photos=photos, pixels=filled.buffer[: filled.taken], buffer=filled.buffer)
