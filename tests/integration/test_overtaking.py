"""What an operator orders while a stream is at work: something urgent goes next, and what is cancelled stops."""

import numpy as np
from engine_helpers import COLOURS, TUNING, ColourModel, jpeg
from ledger_helpers import wait_for

from pipeline.ledger import ending, limits, publish
from pipeline.records import ItemState, JobState, WorkState

BULK, SHARD, URGENT = 300, 60, 8  # photos
DECIDED = 72  # photos: the first shard's, and some that overtook them
MOST_IN_HAND = 6 * ColourModel.batch_photos  # between the store and the last of the batches


class Watching(ColourModel):
    """Remembers, photo by photo, whether it looked at something urgent: those are white."""

    def __init__(self, hook=lambda _: None):
        super().__init__(hook)
        self.seen = []

    def predict(self, pixels):
        self.seen += (pixels.reshape(len(pixels), -1).mean(axis=1) > 250).tolist()
        return super().predict(pixels)


def begun(library, job_id):
    """A photo of the job is in hand."""
    return any(row.lease_started for row in library.ledger.shards(job_id))


def waits(stream):
    """Photos of something urgent are handed out to be fetched."""
    return any(-rank == 50 for rank, _, _ in list(stream._tasks._items.queue))


def write(library, folder, colour, photos):
    for n in range(photos):
        library.write(f"{folder}/ann/{n:03d}.jpg", jpeg(COLOURS[colour], f"{folder} {n}"))


def backlog(library):
    """A bulk job of five shards."""
    library.settings = library.settings.model_copy(update={"shard_photos": SHARD})
    write(library, "bulk", "dog", BULK)
    return library.list("bulk/")


def test_urgent_photos_go_before_all_that_is_held_and_not_begun(library):
    job_id = backlog(library)
    write(library, "urgent", "cup", URGENT)
    listed, streams = [], []

    def order(batch):
        if batch == 1:  # this stream holds three shards or is about to; the message of the urgent one is on its way
            listed.append(library.list("urgent/", priority=50))
            library.ledger.execute("UPDATE core.shard SET state = 1 WHERE priority = 50")
        if model.photos >= DECIDED and not any(model.seen):  # the first shard is merged: there is room, once
            wait_for(lambda: begun(library, listed[0]) or waits(streams[0]))

    model = Watching(order)
    held = TUNING.shards_ahead + 1
    streams.append(library.stream(model))
    assert streams[0].run(library.first(job_id)) == BULK + URGENT
    assert library.ledger.job(listed[0]).count(ItemState.SUCCEEDED) == URGENT
    last = int(np.flatnonzero(model.seen).max())
    assert sum(model.seen) == URGENT
    # What was decided and what was fetched when it was claimed, and itself; not the two shards that were only held.
    assert last < DECIDED + ColourModel.batch_photos + MOST_IN_HAND + URGENT < held * SHARD
    assert library.ledger.shards(job_id, WorkState.PENDING) == []
    library.ledger.check()


def test_a_stream_drops_what_is_cancelled_and_its_next_job_goes_on(library):
    job_id = backlog(library)
    library.write("other/ann/1.jpg", jpeg(COLOURS["car"], "other"))
    other = library.list("other/")

    def order(batch):
        if batch == 3:
            library.ledger.database.run(lambda c: ending.cancel(c, job_id, "ann@desk"))
            ending.wind_up_all(library.ledger.database)

    model = Watching(order)
    library.stream(model, lease_seconds=1).run(library.first(job_id))
    job = library.ledger.job(job_id)
    assert job.state is JobState.CANCELLED
    assert job.count(ItemState.SUCCEEDED, ItemState.CANCELLED) == BULK
    assert job.count(ItemState.CANCELLED) >= BULK - 3 * SHARD
    if library.ledger.shards(other, WorkState.PENDING):  # this stream had claimed its last before it came to it
        library.stream().run(library.first(other))
    assert library.ledger.job(other).count(ItemState.SUCCEEDED) == 1
    assert library.ledger.shards(job_id, WorkState.LEASED) == []
    library.ledger.check()


def test_a_stream_keeps_a_limit_and_goes_on_when_it_is_lifted(library):
    job_id = backlog(library)
    library.ledger.database.run(lambda c: limits.put(c, "annotate.small", 1, "ann@desk"))
    seen = []

    def look(batch):
        seen.append(library.ledger.database.run(limits.in_use)["annotate.small"].leased)
        if batch == 2 * SHARD // ColourModel.batch_photos:
            library.ledger.database.run(lambda c: limits.lift(c, "annotate.small"))

    assert library.stream(ColourModel(look)).run(library.first(job_id)) == BULK
    assert set(seen[: SHARD // ColourModel.batch_photos]) == {1}
    assert max(seen) > 1
    assert library.ledger.database.run(publish.publishable) == []
    library.ledger.check()
