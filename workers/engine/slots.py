"""Decoded photos on their way to the model: rows of a fixed ring of batch buffers, filled in place by many threads.

Theory of operation
    A decoder takes a row, writes the pixels into it, and says what they are (`fill`) or that there are none (`refuse`).
    A batch whose last row is filled goes to the model, and its buffer comes back when the model is done with it. There
    are no more pixels in memory than the ring holds: who finds no row free waits.

Laws
1. A row belongs to one decoder from `take` to `fill` or `refuse`; a batch with such a row stays.
2. A refused row is given to the next decoder. Where none comes, the last filled row moves into the gap.
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
    free: list[int]  # rows nobody has, the next one last
    photos: dict[int, Photo] = field(default_factory=dict)  # by row
    taken: int = 0  # rows that a decoder has
    sealed: bool = False  # goes as it is, once no decoder has a row of it

    @property
    def complete(self) -> bool:
        return not self.taken and (self.sealed or not self.free)


@dataclass(frozen=True, eq=False)
class Row:
    """A decoder's place in a batch."""

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
        lock = threading.Lock()
        self._room = threading.Condition(lock)  # a row may be free
        self._news = threading.Condition(lock)  # a batch may be ready, or has begun to fill

    def take(self) -> Row:
        """A row to write to; waits for one. Aborted where there will be none."""
        with self._room:
            while (batch := self._with_room()) is None:
                if self._aborted:
                    raise Aborted
                self._room.wait()
            batch.taken += 1
            index = batch.free.pop()
        return Row(batch.buffer[index], index, batch)

    def fill(self, row: Row, photo: Photo) -> None:
        """The row's pixels are written."""
        with self._news:
            row.batch.photos[row.index] = photo
            self._filled_at = time.monotonic()
            self._let_go(row.batch)

    def refuse(self, row: Row) -> None:
        """There is no photo for the row."""
        with self._news:
            row.batch.free.append(row.index)
            self._let_go(row.batch)
            self._room.notify()

    def end(self) -> None:
        """No more photos will come; no decoder has a row."""
        with self._news:
            self._ended = True
            self._news.notify()

    def abort(self) -> None:
        """Nobody is to wait any more."""
        with self._news:
            self._ended = self._aborted = True
            self._room.notify_all()
            self._news.notify()

    def next(self, *, wait: bool) -> Batch | None:
        """The next batch; None where, without waiting, none is full, and else only where no more will come."""
        with self._news:
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
        with self._room:
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
            if batch.free and not batch.sealed:
                return batch
        if not self._idle:
            return None
        buffer = self._idle.pop()
        batch = _Filling(buffer, list(reversed(range(min(self._size(), len(buffer))))))
        self._filling.append(batch)
        return batch

    def _let_go(self, batch: _Filling) -> None:
        batch.taken -= 1
        self._pass_on(batch)
        if len(batch.photos) == 1:
            self._news.notify()  # from now on somebody has to look at the clock

    def _pass_on(self, batch: _Filling) -> None:
        """Where nothing more will be written to it."""
        if not batch.complete:
            return
        self._filling.remove(batch)
        if batch.photos:
            self._ready.append(batch)
            self._news.notify()
        else:
            self._idle.append(batch.buffer)
            self._room.notify_all()


def _batch(filled: _Filling) -> Batch:
    """The filled rows, moved together."""
    photos = filled.photos
    count = len(photos)
    gaps = [row for row in range(count) if row not in photos]
    for gap, row in zip(gaps, sorted(row for row in photos if row >= count), strict=True):
        filled.buffer[gap] = filled.buffer[row]
        photos[gap] = photos.pop(row)
    return Batch(photos=[photos[row] for row in range(count)], pixels=filled.buffer[:count], buffer=filled.buffer)
