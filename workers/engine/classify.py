"""The model's step of the stream: batches started ahead, decided in order, turned into results. For one thread."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.annotate import annotate, outcome_of
from pipeline.crashpoints import Point, reached
from pipeline.errors import DeviceLost, ModelError
from pipeline.records import Code, ItemState, PhotoResult
from taxonomy.decide import Decided
from workers.decode.records import Pixels
from workers.engine.flow import Channel
from workers.engine.slots import Batch, Photo, Slots
from workers.engine.timing import Stopwatch
from workers.models.classifier import Classifier, Pending

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Started:
    """Photos that the model works on."""

    photos: Sequence[Photo]
    pixels: Pixels
    pending: Pending
    ends: Batch | None  # whose last photos these are


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Keeps the model busy: the next batch is started before the one before it is decided."""

    classifier: Classifier
    nodes: NDArray[np.int16]  # by column of the taxonomy, the ledger's ids
    slots: Slots
    results: Channel[list[PhotoResult]]
    watch: Stopwatch
    _started: deque[_Started] = field(default_factory=deque)

    def run(self) -> None:
        """Until no more photos come. ModelError: the model fails its canaries, or has lost its device."""
        try:
            while (batch := self._next()) is not None or self._started:
                if batch is None:
                    self._decide_oldest()
                else:
                    self._start(batch)
        finally:
            self._let_finish()

    def _next(self) -> Batch | None:
        if self._started:
            return self.slots.next(wait=False)
        with self.watch.starved():
            return self.slots.next(wait=True)

    def _start(self, batch: Batch) -> None:
        """Begin a batch, in parts where the model takes fewer photos than it did when the batch was filled."""
        at = 0
        while at < len(batch.photos):
            while len(self._started) >= self.classifier.in_flight:
                self._decide_oldest()
            part = slice(at, at + self.classifier.batch_photos)
            at = part.stop
            photos, pixels = batch.photos[part], batch.pixels[part]
            with self.watch.timed("classify"):
                pending = self.classifier.start(pixels)
            reached(Point.CLASSIFY_MID_BATCH)
            ends = batch if at >= len(batch.photos) else None
            self._started.append(_Started(photos=photos, pixels=pixels, pending=pending, ends=ends))

    def _decide_oldest(self) -> None:
        oldest = self._started.popleft()
        try:
            with self.watch.timed("classify"):
                decided = oldest.pending.decided()
        except DeviceLost:
            raise  # there is nothing left to examine
        except ModelError as exc:
            while self._started:  # nothing else is under way while the model is examined
                self._decide_oldest()
            self.results.put(self._one_by_one(oldest, exc))
        else:
            self.results.put(self._results(oldest.photos, decided))
        if oldest.ends is not None:
            self.slots.recycle(oldest.ends)

    def _results(self, photos: Sequence[Photo], decided: Decided) -> list[PhotoResult]:
        with self.watch.timed("annotate"):
            return [
                PhotoResult(
                    task=photo.task,
                    state=ItemState.SUCCEEDED,
                    code=outcome_of(note),
                    annotation=note,
                    sha256=photo.sha256,
                    taken_at=photo.taken_at,
                )
                for photo, note in zip(photos, annotate(decided, self.nodes), strict=True)
            ]

    def _one_by_one(self, started: _Started, error: ModelError) -> list[PhotoResult]:
        """Find the photos that the model cannot take; a model that fails its canaries is not asked again."""
        self.classifier.verify()
        if len(started.photos) == 1:
            return [_refused(started.photos[0], error)]
        alone = [self._alone(photo, started.pixels[n : n + 1]) for n, photo in enumerate(started.photos)]
        return list(chain.from_iterable(alone))

    def _alone(self, photo: Photo, pixels: Pixels) -> list[PhotoResult]:
        try:
            decided = self.classifier.start(pixels).decided()
        except DeviceLost:
            raise
        except ModelError as exc:
            self.classifier.verify()
            return [_refused(photo, exc)]
        return self._results([photo], decided)

    def _let_finish(self) -> None:
        """After a failure: the model reads no more from memory that others are about to use."""
        while self._started:
            try:
                self._started.popleft().pending.decided()
            except Exception as exc:  # the first error is the one that is raised
                log.info("a batch that nobody waits for ended so: %s", exc)


def _refused(photo: Photo, error: ModelError) -> PhotoResult:
    return PhotoResult(
        task=photo.task,
        state=ItemState.FAILED,
        code=Code.MODEL_ERROR,
        sha256=photo.sha256,
        message=str(error),
    )
