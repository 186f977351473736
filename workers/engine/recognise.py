"""The step between fetching and decoding: photos whose bytes the model has said something of are taken over.

One thread. Photos are gathered for a moment, so that the ledger is asked for many at once; meanwhile the decoders have
others, because photos are fetched in bursts. A ledger that is away is not waited for: it costs an inference at most.
"""

import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.annotate import annotate_again, outcome_of
from pipeline.errors import ServiceDown
from pipeline.records import PhotoResult, PhotoTask
from pipeline.store.catalogue import Registered
from pipeline.store.contents import Known, find
from pipeline.store.session import Database
from taxonomy.graph import Taxonomy
from workers.engine.flow import Channel
from workers.engine.intake import Fetched
from workers.engine.twins import Twins, Way, same_content

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.03  # 16 questions a second on two cores that tag 200 photos, for 12 photos each
MOST_PHOTOS = 512  # per question


@dataclass(frozen=True, kw_only=True)
class Recognise:
    """Takes over what is known; lets pass what is not."""

    database: Database
    registered: Registered
    taxonomy: Taxonomy
    twins: Twins
    fetched: Channel[Fetched]
    fresh: Channel[Fetched]  # to be decoded
    results: Channel[list[PhotoResult]]
    let_go: Callable[[PhotoTask], None]  # a photo's bytes are not needed any more
    stopping: Callable[[], bool]  # photos are passed over

    def run(self) -> None:
        """Until no more is fetched."""
        while photos := self._gather():
            if self.stopping():
                for photo in photos:
                    self.let_go(photo.task)
            else:
                self._sort(photos)

    def _gather(self) -> list[Fetched]:
        """What has been fetched by now and in a moment; nothing where no more will come."""
        first = self.fetched.take()
        if first is None:
            return []
        time.sleep(GATHER_SECONDS)
        photos = [first]
        while len(photos) < MOST_PHOTOS:
            try:
                photo = self.fetched.take(timeout=0)
            except queue.Empty:
                break
            if photo is None:
                break  # the channel says so again
            photos.append(photo)
        return photos

    def _sort(self, photos: Sequence[Fetched]) -> None:
        leaders, results = [], []
        for photo in photos:
            way = self.twins.admit(photo.task, photo.sha256)
            if way is Way.LEADS:
                leaders.append(photo)
                continue
            if way is Way.ALONE:
                self.fresh.put(photo)
                continue
            if isinstance(way, PhotoResult):
                results.append(way)
            self.let_go(photo.task)
        known = self._known(leaders)
        for photo in leaders:
            if photo.task.photo_id in known:
                results.append(known[photo.task.photo_id])
                self.let_go(photo.task)
            else:
                self.fresh.put(photo)
        if results:
            self.results.put(results)

    def _known(self, photos: Sequence[Fetched]) -> dict[int, PhotoResult]:
        """By photo, the results that the ledger has for their bytes."""
        contents = {photo.task.photo_id: photo.sha256 for photo in photos}
        if not contents:
            return {}
        try:
            known = self.database.run(lambda connection: find(connection, self.registered, contents))
        except ServiceDown as exc:
            log.info("%d photos are looked at without asking whether their bytes are known: %s", len(contents), exc)
            return {}
        known = self._decided(known)
        return {
            photo.task.photo_id: _like(photo, known[photo.task.photo_id])
            for photo in photos
            if photo.task.photo_id in known
        }

    def _decided(self, known: Mapping[int, Known]) -> dict[int, Known]:
        """The same by the decision in use."""
        current = dict(known)
        others = {
            photo_id: one.annotation
            for photo_id, one in known.items()
            if one.annotation is not None and one.decision_rev != self.registered.decision_rev
        }
        if not others:
            return current
        notes = annotate_again(list(others.values()), self.registered.nodes, self.taxonomy, self.registered.decision)
        for photo_id, note in zip(others, notes, strict=True):
            current[photo_id] = replace(known[photo_id], annotation=note, outcome=outcome_of(note))
        return current


def _like(photo: Fetched, known: Known) -> PhotoResult:
    return same_content(
        photo.task,
        of=known.photo_id,
        outcome=known.outcome,
        annotation=known.annotation,
        sha256=photo.sha256,
        taken_at=known.taken_at,
    )
